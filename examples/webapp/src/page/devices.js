import { ask, askPage, at, seconds, setTime } from "./ask.js";

const FIRST_PAGE = "/sessions?size=20";

// How many pages of the list are shown.
let pages = 1;

// Shows where the user is logged in; `act` does what a button asks for.
export async function showDevices(act) {
  const sessions = new Map();
  let path = FIRST_PAGE;
  for (let page = 0; page < pages && path !== null; page += 1) {
    const { list, next } = await askPage(path);
    // One that is used meanwhile may be on two pages.
    list.forEach((session) => sessions.set(session.id, session));
    path = next;
  }
  const items = [...sessions.values()].map((session) => device(session, act));
  at("list").replaceChildren(...items);
  const more = at("more-devices");
  more.hidden = path === null;
  more.onclick = () =>
    act(more, async () => {
      pages += 1;
      return { focus: () => at("list").children[items.length]?.querySelector(".name") };
    });
}

// Begins with the first page again.
export function forgetDevices() {
  pages = 1;
  at("list").replaceChildren();
}

function device(session, act) {
  const item = at("device").content.cloneNode(true).querySelector("li");
  const part = (selector) => item.querySelector(selector);
  const name = session.device.label ?? "Unknown device";
  item.dataset.session = session.id;
  part(".label").textContent = name;
  part(".here").hidden = !session.current;
  part(".ip").textContent = session.device.ip ? `${session.device.ip} · ` : "";
  part(".agent").textContent = session.device.user_agent ?? "";
  part(".agent").title = session.device.user_agent ?? "";
  setTime(part(".seen"), session.last_seen_at);
  setTime(part(".began"), session.created_at);
  setTime(part(".ends"), session.expires_at);

  const form = part(".rename");
  const field = form.elements.label;
  const edit = (isOn) => {
    form.hidden = !isOn;
    part(".named").hidden = isOn;
    part(".name").hidden = isOn;
  };
  field.setAttribute("aria-label", `New name of ${name}`);
  part(".name").setAttribute("aria-label", `Rename ${name}`);
  part(".name").addEventListener("click", () => {
    edit(true);
    field.value = session.device.label ?? "";
    field.select();
  });
  const stop = () => {
    edit(false);
    part(".name").focus();
  };
  part(".cancel").addEventListener("click", stop);
  form.addEventListener("keydown", (event) => event.key === "Escape" && stop());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(form.querySelector("button"), async () => {
      const { label } = await ask("PUT", `/sessions/${session.id}`, { label: field.value });
      return {
        said: `${name} is now called ${label}.`,
        focus: () => at("list").querySelector(`[data-session="${session.id}"] .name`),
      };
    });
  });

  const out = part(".out");
  out.setAttribute("aria-label", `Log out ${name}`);
  out.addEventListener("click", () =>
    act(out, async () => {
      if (session.current) {
        await ask("POST", "/logout");
        return { said: "You are logged out." };
      }
      const { effective_within_ms: ms } = await ask("DELETE", `/sessions/${session.id}`);
      return {
        said: `${name} is logged out, everywhere ${seconds(ms)}.`,
        focus: () => at("ask-again"),
      };
    }),
  );
  return item;
}
