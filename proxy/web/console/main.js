// Starts the console: who is signed in, which page the address names.

import { admin, get, whenSignedOut } from "./api.js";
import { h, rememberFocus, replace } from "./dom.js";
import { session } from "./session.js";
import { applyTheme, frame, pages } from "./shell.js";
import { dismiss, problem, toast } from "./ui.js";

let leaving = new AbortController();
/** The frame, as long as its language and who is signed in stay; the page in it, by its path. */
let layout, shown;

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

/** Open the page that the address names. The same page with another query takes its place when it is complete. */
async function open() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  document.querySelectorAll("dialog").forEach(dismiss);
  if (!session.key) {
    layout = shown = undefined;
    const { signIn } = await import("./pages/signin.js");
    return signIn(open);
  }
  const { name, rest, query } = place();
  const page = pageOf(name);
  const path = page === name ? [page, ...rest].join("/") : page;
  layout ??= frame(redraw, signOut);
  const { main } = layout;
  const content = h("div", { class: "page" });
  main.ariaBusy = path === shown ? "true" : null;
  if (path !== shown) {
    layout.mark(page);
    replace(main, content);
    scrollTo(0, 0);
    if (shown !== undefined) main.focus({ preventScroll: true });
    shown = path;
  }
  try {
    // Without what is learned here amounts would be told in the wrong currency.
    const [module] = await Promise.all([import(`./pages/${page}.js`), session.known || learn()]);
    if (!signal.aborted) await module.default({ element: content, rest: page === name ? rest : [], query, signal, setQuery, keepQuery });
  } catch (error) {
    if (!signal.aborted) replace(content, problem(error, open));
  }
  if (signal.aborted) return undefined;
  main.ariaBusy = null;
  const refocus = rememberFocus();
  if (!content.isConnected) replace(main, content);
  return refocus(main);
}

function redraw() {
  layout = undefined;
  shown = "";
  return open();
}

/** Return the address with other members in its query. */
function addressWith(changes) {
  const { name, rest, query } = place();
  for (const [key, value] of Object.entries(changes)) {
    if (value) query.set(key, value);
    else query.delete(key);
  }
  const path = [name || pages()[0][0], ...rest].map(encodeURIComponent).join("/");
  return `#/${path}${query.size ? `?${query}` : ""}`;
}

/** Change members of the address's query; the page is drawn anew. */
function setQuery(changes) {
  location.hash = addressWith(changes);
}

/** Change them for a page that draws by itself what they change. */
function keepQuery(changes) {
  history.replaceState(null, "", addressWith(changes));
}

/** Learn what every page needs to know. */
async function learn() {
  if (!session.isAdmin) return session.learn((await get("/v1/key")).billing);
  const { billing, limits, plans } = await admin.get("/config");
  return session.learn({ ...billing, timezone: limits.timezone, plans });
}

function signOut() {
  session.signOut();
  location.hash = "";
  open();
}

whenSignedOut((error) => {
  if (!session.key) return;
  session.signOut();
  toast(error.message);
  open();
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
open();
