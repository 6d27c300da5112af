// Two languages. English texts are the names under which the other one is looked up.

const KEY = "sluice.language";
export const LANGUAGES = { en: "English", zh: "简体中文" };

function preferred() {
  const kept = sessionStorage.getItem(KEY);
  if (kept in LANGUAGES) return kept;
  return (navigator.language ?? "en").toLowerCase().startsWith("zh") ? "zh" : "en";
}

let language = preferred();
let texts = {};
await load();

/** Load the dictionary of the chosen language; English needs none. */
async function load() {
  texts = language === "zh" ? (await import("./zh.js")).default : {};
  document.documentElement.lang = tag();
}

export function currentLanguage() {
  return language;
}

/** Return the language as Intl and `lang` want it. */
export function tag() {
  return language === "zh" ? "zh-CN" : "en";
}

export async function setLanguage(name) {
  language = name;
  sessionStorage.setItem(KEY, name);
  await load();
}

/** Return a text in the chosen language, `{name}` replaced by values. */
export function t(text, values = {}) {
  return (texts[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
