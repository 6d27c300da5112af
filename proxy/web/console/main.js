// Starts the console: who is signed in, which page the address names.

import { ApiError, admin, get, whenSignedOut } from "./api.js";
import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { session } from "./session.js";
import { applyTheme, frame, pages } from "./shell.js";
import { problem, toast } from "./ui.js";

let leaving = new AbortController();

/** Return {name, rest, query} of the address: `#/requests/req_…?status=timeout`. */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decoded);
  return { name, rest, query: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function open() {
  leaving.abort();
  leaving = new AbortController();
  const signal = leaving.signal;
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  if (!session.key) {
    const { signIn } = await import("./pages/signin.js");
    signIn(begin, open);
    return;
  }
  const { name, rest, query } = place();
  const known = pages().map(([page]) => page);
  const page = known.includes(name) || name === "requests" ? name : known[0];
  const focused = mark(document.activeElement);
  const main = frame(page, open, signOut);
  const content = h("div", { class: "page" });
  main.append(content);
  try {
    const module = await import(`./pages/${page}.js`);
    if (signal.aborted) return;
    await module.default({ element: content, rest: page === name ? rest : [], query, signal, setQuery });
  } catch (error) {
    if (!signal.aborted) replace(content, problem(error, open));
  }
  if (!signal.aborted && focused && document.activeElement === document.body) {
    // Where one was, if that is still there; else where the page begins.
    const same = [...document.querySelectorAll(focused.tag)].find((one) => mark(one).text === focused.text);
    (same && !same.closest("nav") ? same : main).focus({ preventScroll: true });
  }
}

/** What a control is recognised by after its page was drawn anew; null for none. */
function mark(element) {
  if (!element || element === document.body) return null;
  return { tag: element.localName, text: element.name || element.getAttribute("aria-label") || element.textContent };
}

/** Change members of the address's query; the page is drawn anew. */
function setQuery(changes) {
  const { name, rest, query } = place();
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(key);
    else query.set(key, value);
  }
  const path = [name || pages()[0][0], ...rest].map(encodeURIComponent).join("/");
  location.hash = `#/${path}${query.size ? `?${query}` : ""}`;
}

/** Learn what every page needs to know, then open the one that the address names. */
async function begin() {
  let failed;
  try {
    if (session.key) await learn();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return;
    failed = error;
  }
  await open();
  if (failed) toast(failed.message);
}

async function learn() {
  if (session.isAdmin) {
    const config = await admin.get("/config");
    session.currency = config.billing.currency;
    session.mode = config.billing.mode;
    session.timezone = config.limits.timezone;
    session.plans = config.plans;
  } else {
    session.currency = (await get("/v1/usage")).currency;
  }
}

function signOut() {
  session.signOut();
  location.hash = "";
  open();
}

whenSignedOut((error) => {
  if (!session.key) return;
  session.signOut();
  open().then(() => toast(error.message));
});
applyTheme();
addEventListener("hashchange", open);
begin();
