// The tokens in the answer to a login are for other clients: here the cookie does it, which no
// script can read.

const at = (id) => document.getElementById(id);

const TIERS = {
  hot: "the process itself, with no I/O",
  warm: "Redis, in one round trip",
  cold: "the database",
};

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(0, "the service cannot be reached");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Refused(response.status, answer.error ?? `the service answered ${response.status}`);
  }
  return answer;
}

function say(text, isBad = false) {
  const message = at("message");
  message.textContent = text.charAt(0).toUpperCase() + text.slice(1);
  message.classList.toggle("bad", isBad);
  message.hidden = text === "";
}

function show({ guest }) {
  at("guest").hidden = !guest;
  for (const id of ["user", "devices", "log-out"]) {
    at(id).hidden = guest;
  }
}

function showGuest() {
  show({ guest: true });
  at("username").focus();
}

function showUser({ user, session, tier }) {
  at("name").textContent = user.username;
  at("email").textContent = user.email;
  at("session").textContent = session.id;
  at("version").textContent = session.version;
  at("tier").textContent = tier;
  at("tier").className = `tier ${tier}`;
  at("tier-says").textContent = TIERS[tier] ?? "";
}

function showDevices(sessions) {
  const items = sessions.map((session) => {
    const item = at("device").content.cloneNode(true);
    const set = (part, text) => (item.querySelector(part).textContent = text);
    const name = session.device.label ?? "Unknown device";
    set(".label", name);
    set(".ip", session.device.ip ? `${session.device.ip} · ` : "");
    set(".agent", session.device.user_agent ?? "");
    item.querySelector(".agent").title = session.device.user_agent ?? "";
    item.querySelector(".here").hidden = !session.current;
    const time = item.querySelector("time");
    time.dateTime = session.created_at;
    time.textContent = new Date(session.created_at).toLocaleString([], {
      dateStyle: "medium",
      timeStyle: "short",
    });
    const button = item.querySelector("button");
    button.setAttribute("aria-label", `Log out this device: ${name}`);
    button.addEventListener("click", () => doing(button, () => logOutDevice(session, name)));
    return item;
  });
  at("list").replaceChildren(...items);
}

async function load() {
  const me = await ask("GET", "/me");
  showUser(me);
  showDevices(await ask("GET", "/sessions"));
  show({ guest: false });
}

async function logOutDevice(session, name) {
  const { effective_within_ms: ms } = await ask("DELETE", `/sessions/${session.id}`);
  if (session.current) {
    showGuest();
    say("You are logged out.");
    return;
  }
  await load();
  say(`${name} is logged out, everywhere within ${(ms / 1000).toFixed(1)} s at the latest.`);
  // The button that had the focus is gone.
  at("ask-again").focus();
}

// One thing at a time, and what went wrong is said.
async function doing(button, work) {
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    const isOut = error.status === 401 && at("guest").hidden;
    if (isOut) {
      showGuest();
    }
    say(isOut ? `You are not logged in any more: ${error.message}.` : `${error.message}.`, true);
  } finally {
    button.disabled = false;
  }
}

at("log-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  doing(form.querySelector("button"), async () => {
    await ask("POST", "/login", Object.fromEntries(new FormData(form)));
    form.reset();
    say("");
    await load();
    at("ask-again").focus();
  });
});

at("log-out").addEventListener("click", (event) =>
  doing(event.currentTarget, async () => {
    await ask("POST", "/logout");
    showGuest();
    say("You are logged out.");
  }),
);

at("log-out-everywhere").addEventListener("click", (event) =>
  doing(event.currentTarget, async () => {
    const { effective_within_ms: ms } = await ask("DELETE", "/sessions");
    showGuest();
    say(`You are logged out on every device, within ${(ms / 1000).toFixed(1)} s at the latest.`);
  }),
);

at("ask-again").addEventListener("click", (event) =>
  doing(event.currentTarget, async () => {
    await load();
    say("");
  }),
);

load().catch((error) => {
  showGuest();
  if (error.status !== 401) {
    say(`${error.message}.`, true);
  }
});
