// Starts the console: who is signed in, which page the address names.

import { ApiError, admin, get, whenSignedOut } from "./api.js";
import { h, rememberFocus, replace } from "./dom.js";
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

/** Return the page that a name in the address stands for: the first one, unless it is another's. */
function pageOf(name) {
  const known = pages().map(([page]) => page);
  return known.includes(name) || name === "requests" ? name : known[0];
}

const load = (page) => import(`./pages/${page}.js`);

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
  const page = pageOf(name);
  const refocus = rememberFocus();
  const main = frame(page, open, signOut);
  const content = h("div", { class: "page" });
  main.append(content);
  try {
    const module = await load(page);
    if (signal.aborted) return;
    await module.default({ element: content, rest: page === name ? rest : [], query, signal, setQuery });
  } catch (error) {
    if (!signal.aborted) replace(content, problem(error, open));
  }
  if (!signal.aborted) refocus(main);
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
    if (session.key) await Promise.all([learn(), load(pageOf(place().name))]);
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
    ({ currency: session.currency, timezone: session.timezone } = await get("/v1/usage"));
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

/** A slash goes to the page's search, where there is one. */
function find(event) {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.querySelector("main input[type=search]");
  if (!search) return;
  event.preventDefault();
  search.select();
}

applyTheme();
addEventListener("hashchange", open);
addEventListener("keydown", find);
begin();
