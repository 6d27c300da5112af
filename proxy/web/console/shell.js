// The frame around every page: navigation, language, light or dark, signing out.

import { h, replace } from "./dom.js";
import { currentLanguage, LANGUAGES, setLanguage, t } from "./i18n.js";
import { icon } from "./icons.js";
import { session } from "./session.js";
import { drawer, select, toast } from "./ui.js";

const THEME = "sluice.theme";

const ADMIN = [
  ["overview", "Overview"],
  ["requests", "Requests"],
  ["keys", "Keys"],
  ["accounts", "Accounts"],
  ["models", "Models"],
  ["providers", "Providers"],
  ["chat", "Test chat"],
  ["setup", "Set up a tool"],
  ["config", "Configuration"],
];
const HOLDER = [
  ["mykey", "My key"],
  ["overview", "Usage"],
  ["models", "Models"],
  ["chat", "Test chat"],
  ["setup", "Set up a tool"],
];
/** So many stand in a phone's bar; the rest is behind "More". */
const IN_BAR = 4;

export const pages = () => (session.isAdmin ? ADMIN : HOLDER);

const theme = () => localStorage.getItem(THEME) ?? "auto";

export function applyTheme() {
  document.documentElement.dataset.theme = theme();
}

/** Language and light or dark: on every page, the sign-in too. */
export function preferences(redraw) {
  const language = select("language", Object.entries(LANGUAGES), currentLanguage(), {
    "aria-label": t("Language"),
    onchange: (event) => setLanguage(event.target.value).then(redraw, (error) => toast(error.message)),
  });
  const look = select(
    "theme",
    [
      ["auto", t("As the system")],
      ["light", t("Light")],
      ["dark", t("Dark")],
    ],
    theme(),
    { "aria-label": t("Appearance"), onchange: (event) => (localStorage.setItem(THEME, event.target.value), applyTheme()) },
  );
  return h("div", { class: "preferences" }, language, look);
}

/** Build the frame; return the element for pages, and `mark`, which says in the navigation which one it holds. */
export function frame(redraw, signOut) {
  let current;
  const here = (is) => (is ? "page" : null);
  const link = ([name, title]) => h("a", { href: `#/${name}`, "aria-current": here(name === current) }, icon(name), h("span", {}, t(title)));
  const items = pages();
  const out = () =>
    h("button", { type: "button", class: "plain out", onclick: signOut }, icon("out"), h("span", {}, t("Sign out")));
  const more = h(
    "button",
    {
      type: "button",
      class: "plain more",
      onclick: () =>
        drawer(t("More"), (close) => {
          const rest = h("nav", { class: "rest", "aria-label": t("More") }, items.slice(IN_BAR).map(link));
          rest.addEventListener("click", (event) => event.target.closest("a") && close());
          return [rest, preferences(() => (close(), redraw())), h("div", { onclick: close }, out())];
        }),
    },
    icon("more"),
    h("span", {}, t("More")),
  );
  const main = h("main", { id: "main", tabindex: "-1" });
  const skip = h("a", { class: "skip", href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, t("Skip to the content"));
  const nav = h("nav", { class: "rail", "aria-label": t("Pages") }, items.map(link), more);
  const foot = h("div", { class: "rail-foot" }, preferences(redraw), out());
  const brand = h("p", { class: "brand" }, h("img", { src: "icon.svg", alt: "", width: 24, height: 24 }), "Sluice");
  replace(document.getElementById("app"), skip, h("div", { class: "layout" }, h("header", { class: "side" }, brand, nav, foot), main));
  const mark = (page) => {
    current = page;
    items.forEach(([name], index) => (nav.children[index].ariaCurrent = here(name === page)));
    more.ariaCurrent = here(items.findIndex(([name]) => name === page) >= IN_BAR);
  };
  return { main, mark };
}

/** A page's title, a sentence below it, and what stands beside it. */
export function heading(title, sentence, ...beside) {
  document.title = `${title} · Sluice`;
  return h(
    "div",
    { class: "heading" },
    h("div", {}, h("h1", {}, title), sentence && h("p", { class: "quiet" }, sentence)),
    h("div", { class: "beside" }, beside),
  );
}
