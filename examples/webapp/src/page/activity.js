import { at, setTime } from "./ask.js";

const WORDS = {
  created: "Logged in",
  rotated: "The session got a new id, by a login or a new password",
  refreshed: "Tokens refreshed",
  refresh_replayed: "A refresh token came twice within seconds, and got the same answer",
  revoked: "Logged out",
  reuse_detected: "A refresh token was used twice: somebody has a copy",
};

const REASONS = {
  limit: "Logged out: too many devices",
  reuse: "Logged out, because a refresh token was used twice",
  binding: "Logged out: the request did not fit the session",
};

// Shows what happened to the user's sessions, the latest first.
export function showActivity({ events, missed, since }, current) {
  const items = events.map((event) => {
    const item = at("event").content.cloneNode(true);
    const part = (selector) => item.querySelector(selector);
    const session = event.to ?? event.session;
    const words = REASONS[event.reason] ?? WORDS[event.event] ?? event.event;
    part(".what").textContent = words;
    setTime(part("time"), event.at, "medium");
    part("code").textContent = session.slice(0, 8);
    part("code").title = session;
    part(".here").hidden = session !== current;
    return item;
  });
  at("events").replaceChildren(...items);
  const time = document.createElement("time");
  setTime(time, since);
  const unseen = missed === 0 ? "." : `; ${missed} events went by unseen.`;
  at("watched").replaceChildren("Since ", time, unseen);
}
