// Two languages. English texts are the names under which the other one is looked up.

import zh from "./zh.js";

const KEY = "sluice.language";
export const LANGUAGES = { en: "English", zh: "简体中文" };

function preferred() {
  const kept = sessionStorage.getItem(KEY);
  if (kept in LANGUAGES) return kept;
  return (navigator.language ?? "en").toLowerCase().startsWith("zh") ? "zh" : "en";
}

let language = preferred();
document.documentElement.lang = tag();

export function currentLanguage() {
  return language;
}

/** Return the language as Intl and `lang` want it. */
export function tag() {
  return language === "zh" ? "zh-CN" : "en";
}

export function setLanguage(name) {
  language = name;
  sessionStorage.setItem(KEY, name);
  document.documentElement.lang = tag();
}

/** Return a text in the chosen language, `{name}` replaced by values. */
export function t(text, values = {}) {
  const found = language === "zh" ? (zh[text] ?? text) : text;
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
