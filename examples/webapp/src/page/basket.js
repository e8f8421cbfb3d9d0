import { ask, at } from "./ask.js";

// Shows what the session holds; `act` does what a button asks for.
export function showBasket(data, session, act) {
  // What gets the focus is found once the new basket is shown.
  const change = (button, basket, focus) =>
    act(button, async () => {
      await ask("PUT", "/data", { ...data, basket });
      return { focus };
    });

  const items = data.basket.map((item, index) => {
    const part = at("item").content.cloneNode(true);
    part.querySelector(".thing").textContent = item.name;
    part.querySelector(".count").textContent = item.count;
    const step = (selector, label, by) => {
      const button = part.querySelector(selector);
      button.setAttribute("aria-label", `${label} ${item.name}`);
      button.addEventListener("click", () =>
        change(
          button,
          counted(data.basket, index, item.count + by),
          () => at("items").children[index]?.querySelector(selector) ?? at("thing"),
        ),
      );
    };
    step(".less", "One less of", -1);
    step(".more", "One more of", 1);
    return part;
  });
  at("items").replaceChildren(...items);
  at("basket-says").textContent = about(session);

  at("add").onsubmit = (event) => {
    event.preventDefault();
    const form = event.target;
    const name = at("thing").value.trim();
    if (name === "") {
      return;
    }
    const index = data.basket.findIndex((item) => item.name === name);
    const basket =
      index < 0
        ? [...data.basket, { name, count: 1 }]
        : counted(data.basket, index, data.basket[index].count + 1);
    change(form.querySelector("button"), basket, () => {
      form.reset();
      return at("thing");
    });
  };
}

function counted(basket, index, count) {
  const changed = basket.map((item, at) => (at === index ? { ...item, count } : item));
  return changed.filter((item) => item.count > 0);
}

function about(me) {
  if (me === null) {
    return "Nobody needs to log in for this: the first thing begins a guest’s session.";
  }
  if (me.user === null) {
    const ends = new Date(me.session.expires_at).toLocaleTimeString([], { timeStyle: "short" });
    return `You are a guest until ${ends}. Log in, and the basket comes with you.`;
  }
  return "Kept in this session.";
}
