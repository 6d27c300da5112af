// Two languages. English texts are the names under which the other one is looked up.

const KEY = "sluice.language";
export const LANGUAGES = { en: "English", zh: "简体中文" };

function preferred() {
  const kept = localStorage.getItem(KEY);
  if (kept in LANGUAGES) return kept;
  return (navigator.language ?? "en").toLowerCase().startsWith("zh") ? "zh" : "en";
}

let language;
let texts = {};
await load(preferred());

/** Load the dictionary of a language, English needs none; then it is the one in use. */
async function load(name) {
  texts = name === "zh" ? await chinese() : {};
  language = name;
  document.documentElement.lang = tag();
}

async function chinese() {
  const [pages, tools] = await Promise.all([import("./zh.js"), import("./zh-tools.js")]);
  return { ...pages.default, ...tools.default };
}

export function currentLanguage() {
  return language;
}

/** Return the language as Intl and `lang` want it. */
export function tag() {
  return language === "zh" ? "zh-CN" : "en";
}

export async function setLanguage(name) {
  await load(name);
  localStorage.setItem(KEY, name);
}

/** Return a text in the chosen language, `{name}` replaced by values. */
export function t(text, values = {}) {
  return (texts[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
