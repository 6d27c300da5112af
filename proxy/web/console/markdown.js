// The little of Markdown that answers use, as elements. Text stays text: there is no HTML from models.

import { h } from "./dom.js";
import { copyButton } from "./ui.js";

const INLINE = /(`[^`\n]+`)|(\*\*[^*\n]+\*\*)|(\*[^*\s][^*\n]*\*)|(\[[^\]\n]+\]\(https?:[^\s)]+\))/;
const RULE = /^ *\|? *:?-+:? *(\| *:?-+:? *)*\|? *$/;

export function inline(text) {
  return text.split(INLINE).filter(Boolean).map((part) => {
    if (part.length > 2 && part.startsWith("`") && part.endsWith("`")) return h("code", {}, part.slice(1, -1));
    if (part.length > 4 && part.startsWith("**") && part.endsWith("**")) return h("strong", {}, part.slice(2, -2));
    if (part.length > 2 && /^\*[^*\s].*\*$/.test(part)) return h("em", {}, part.slice(1, -1));
    const [, shown, href] = /^\[(.+)\]\((https?:.+)\)$/.exec(part) ?? [];
    return href ? h("a", { href, title: href, target: "_blank", rel: "noopener noreferrer" }, shown) : part;
  });
}

export function codeBlock(text, label = "") {
  return h(
    "div",
    { class: "code-block" },
    h("header", {}, h("span", { class: "hint" }, label), copyButton(text)),
    h("pre", { class: "code", tabindex: "0" }, h("code", {}, text)),
  );
}

/** Return elements for a text: paragraphs, lists, headings, tables, fenced code. */
export function markdown(text) {
  // An odd fence at the end is one that is still being written.
  return text.split(/^```(.*)\n([\s\S]*?)(?:^```[ \t]*$|(?![\s\S]))/m).flatMap((part, index) => {
    if (index % 3 === 1) return [];
    if (index % 3 === 2) return [codeBlock(part.replace(/\n$/, ""))];
    return part.split(/\n{2,}/).filter((block) => block.trim()).map(block);
  });
}

function block(text) {
  const lines = text.replace(/^\n+|\n+$/g, "").split("\n");
  const rule = lines.findIndex((line, index) => index && line.includes("|") && RULE.test(line) && lines[index - 1].includes("|"));
  if (rule > 0) return [rule > 1 && block(lines.slice(0, rule - 1).join("\n")), grid(lines[rule - 1], lines.slice(rule + 1))];
  const title = /^#{1,6}\s+(.*)/.exec(lines[0]);
  if (title && lines.length === 1) return h("p", { class: "strong" }, inline(title[1]));
  for (const [tag, mark] of [["ul", /^\s*[-*+]\s+/], ["ol", /^\s*\d+[.)]\s+/]]) {
    if (lines.every((line) => mark.test(line))) return h(tag, {}, lines.map((line) => h("li", {}, inline(line.replace(mark, "")))));
  }
  return h("p", {}, inline(lines.join("\n")));
}

function grid(head, rows) {
  const row = (line, tag) => h("tr", {}, line.replace(/^ *\||\| *$/g, "").split("|").map((cell) => h(tag, {}, inline(cell.trim()))));
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, row(head, "th")), h("tbody", {}, rows.map((line) => row(line, "td")))));
}
