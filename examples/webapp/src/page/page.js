import { showActivity } from "./activity.js";
import { ask, at, Refused, seconds, sentence, setTime } from "./ask.js";
import { showBasket } from "./basket.js";
import { forgetDevices, showDevices } from "./devices.js";

const TIERS = {
  hot: "the process itself, with no I/O",
  warm: "Redis, in one round trip",
  cold: "the database",
};

// Whether a user is shown.
let isIn = false;

function say(text, isBad = false) {
  const message = at("message");
  message.textContent = sentence(text);
  message.classList.toggle("bad", isBad);
  message.hidden = text === "";
}

function showUser({ user, session, tier }) {
  at("name").textContent = user.username;
  at("email").textContent = user.email;
  // For password managers.
  at("whose").value = user.username;
  at("still").value = user.username;
  at("session").textContent = session.id;
  at("version").textContent = session.version;
  at("tier").textContent = tier;
  at("tier").className = `tier ${tier}`;
  at("tier-says").textContent = TIERS[tier] ?? "";
  setTime(at("authenticated-at"), session.authenticated_at);
  setTime(at("expires-at"), session.expires_at);
}

// What is there, or null where that takes a session and there is none.
async function ifAny(path) {
  try {
    return await ask("GET", path);
  } catch (error) {
    if (error.status === 401) {
      return null;
    }
    throw error;
  }
}

async function load() {
  const me = await ifAny("/me");
  const data = await ifAny("/data");
  const user = me?.user ?? null;
  if (user !== null) {
    showUser(me);
    await showDevices(act);
    showActivity(await ask("GET", "/activity"), me.session.id);
  }
  if (user === null) {
    forgetDevices();
  }
  if (data !== null) {
    showBasket(data, me, act);
  }
  isIn = user !== null;
  at("guest").hidden = isIn;
  at("basket").hidden = data === null;
  for (const id of ["user", "devices", "secret", "activity", "log-out"]) {
    at(id).hidden = !isIn;
  }
}

// Does one thing at a time, shows what is there after it, and says what is to be said of it. The
// work returns what that is, and what gets the focus, since its button may be gone.
async function act(button, work) {
  const wasIn = isIn;
  button.disabled = true;
  try {
    const done = await work();
    await load();
    say(done?.said ?? "");
    done?.focus?.()?.focus();
  } catch (error) {
    if (!(error instanceof Refused)) {
      throw error;
    }
    if (error.status === 401) {
      await load().catch(() => {});
    }
    const isOut = wasIn && !isIn;
    say(isOut ? `You are not logged in any more: ${error.message}.` : `${error.message}.`, true);
  } finally {
    button.disabled = false;
  }
  if (wasIn && !isIn) {
    at("username").focus();
  }
}

at("log-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  act(form.querySelector("button"), async () => {
    await ask("POST", "/login", Object.fromEntries(new FormData(form)));
    form.reset();
    return { focus: () => at("ask-again") };
  });
});

at("log-out").addEventListener("click", (event) =>
  act(event.currentTarget, async () => {
    await ask("POST", "/logout");
    return { said: "You are logged out." };
  }),
);

at("log-out-everywhere").addEventListener("click", (event) =>
  act(event.currentTarget, async () => {
    const { effective_within_ms: ms } = await ask("DELETE", "/sessions");
    return { said: `You are logged out on every device, ${seconds(ms)}.` };
  }),
);

at("change").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  act(form.querySelector("button"), async () => {
    const { effective_within_ms: ms } = await ask("PUT", "/password", {
      current_password: at("current-password").value,
      password: at("new-password").value,
    });
    at("current-password").value = "";
    at("new-password").value = "";
    return { said: `Your password is changed; all other devices are out ${seconds(ms)}.` };
  });
});

at("ask-again").addEventListener("click", (event) => act(event.currentTarget, async () => {}));

load().catch((error) => {
  at("guest").hidden = false;
  say(`${error.message}.`, true);
});
