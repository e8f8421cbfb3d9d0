// Asks the API. A login answers without tokens unless it is asked for them: here the cookie does it,
// which no script can read.

export const at = (id) => document.getElementById(id);

export class Refused extends Error {
  constructor(status, message, wantsPassword = false) {
    super(message);
    this.status = status;
    this.wantsPassword = wantsPassword;
  }
}

// The answer; where it takes a recent login, after the password was given again.
export async function ask(method, path, body) {
  try {
    return await send(method, path, body);
  } catch (error) {
    if (!error.wantsPassword) {
      throw error;
    }
    if (!(await givenAgain())) {
      throw new Refused(0, "nothing was changed: that needs your password again");
    }
    return send(method, path, body);
  }
}

// A page of a list, and the path of the next one if there is one (RFC 8288).
export async function askPage(path) {
  const { answer, response } = await exchange("GET", path);
  const link = /<([^>]*)>; rel="next"/.exec(response.headers.get("link") ?? "");
  return { list: answer, next: link?.[1] ?? null };
}

async function send(method, path, body) {
  return (await exchange(method, path, body)).answer;
}

async function exchange(method, path, body) {
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
  if (response.ok) {
    return { answer, response };
  }
  const message = answer.error ?? `the service answered ${response.status}`;
  throw new Refused(response.status, message, wantsPassword(response));
}

// RFC 9470: the session is good, but its login is not recent enough. Without `max_age` another
// login is wanted, which the page asks for as of a guest.
function wantsPassword(response) {
  const challenge = response.headers.get("www-authenticate") ?? "";
  return challenge.includes("insufficient_user_authentication") && challenge.includes("max_age");
}

// Asks for the password until it is right, or nobody wants to give it.
function givenAgain() {
  const dialog = at("again");
  const form = dialog.querySelector("form");
  const [go, cancel] = form.querySelectorAll("button");
  form.onsubmit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    at("again-bad").textContent = "";
    try {
      await send("POST", "/reauthenticate", { password: at("proof").value });
      dialog.close("given");
    } catch (error) {
      at("again-bad").textContent = `${sentence(error.message)}.`;
      at("proof").select();
    } finally {
      go.disabled = false;
    }
  };
  cancel.onclick = () => dialog.close("");
  dialog.returnValue = "";
  at("again-bad").textContent = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      form.reset();
      resolve(dialog.returnValue === "given");
    };
  });
}

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Shows an instant of the API in the reader's own time.
export function setTime(element, text, timeStyle = "short") {
  element.dateTime = text;
  element.textContent = new Date(text).toLocaleString([], {
    dateStyle: "medium",
    timeStyle,
  });
}

export function seconds(ms) {
  return `within ${(ms / 1000).toFixed(1)} s at the latest`;
}
