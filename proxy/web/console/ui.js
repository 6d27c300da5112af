// What pages are made of: loading, errors, tables, drawers, fields, toasts.

import { h, replace, uniqueId } from "./dom.js";
import { t } from "./i18n.js";
import { dateTime, moment } from "./format.js";
import { icon } from "./icons.js";

const SKELETON_MS = 300;

/** Show in `element` what `load` resolves to; a skeleton if it takes long, the error if it fails. */
export async function show(element, load, render) {
  const ticket = (element.ticket = Symbol("load"));
  const timer = setTimeout(() => {
    if (element.ticket !== ticket) return;
    element.setAttribute("aria-busy", "true");
    if (!element.childElementCount) replace(element, skeleton());
  }, SKELETON_MS);
  try {
    const value = await load();
    if (element.ticket === ticket) replace(element, render(value));
    return value;
  } catch (error) {
    if (element.ticket === ticket) replace(element, problem(error, () => show(element, load, render)));
    return undefined;
  } finally {
    clearTimeout(timer);
    if (element.ticket === ticket) element.removeAttribute("aria-busy");
  }
}

function skeleton() {
  const label = h("p", { class: "visually-hidden", role: "status" }, t("Loading…"));
  return h("div", { class: "skeleton" }, label, h("i"), h("i"), h("i"));
}

/** An error as the gateway said it, with its request id and a way to try again. */
export function problem(error, retry) {
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("p", {}, error.message || String(error)),
    error.requestId && h("p", { class: "quiet" }, t("Request {id}", { id: error.requestId })),
    retry && h("button", { type: "button", onclick: retry }, t("Try again")),
  );
}

export function empty(title, text, action) {
  return h("div", { class: "empty" }, h("p", { class: "strong" }, title), text && h("p", { class: "quiet" }, text), action);
}

/** A state in words, with a mark whose shape says it too. */
export function badge(kind, text, title) {
  return h("span", { class: `badge ${kind}`, title }, text);
}

export function time(text) {
  return text ? h("time", { datetime: text, title: dateTime(text) }, moment(text)) : h("span", { class: "quiet" }, "–");
}

/** A table; columns are {title, cell, number?, wide?}, hidden on phones unless `keep`. */
export function table(caption, columns, rows, { onopen } = {}) {
  const head = columns.map((column) =>
    h("th", { scope: "col", class: column.number && "number" }, column.title || h("span", { class: "visually-hidden" }, t("Actions"))),
  );
  const body = rows.map((row) =>
    h(
      "tr",
      onopen ? { class: "opens", onclick: (event) => event.target.closest("a,button") || onopen(row) } : {},
      columns.map((column) =>
        h("td", { class: column.number ? "number" : column.class, "data-label": column.title }, column.cell(row)),
      ),
    ),
  );
  return h(
    "div",
    { class: "scroll stack", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "visually-hidden" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)),
  );
}

/** Open a drawer; `build` gets a function that closes it. */
export function drawer(title, build) {
  const id = uniqueId("drawer");
  const before = document.activeElement;
  const close = () => dialog.close();
  const dialog = h(
    "dialog",
    { class: "drawer", "aria-labelledby": id, onclose: () => (dialog.remove(), before?.isConnected && before.focus()) },
    h(
      "header",
      {},
      h("h2", { id }, title),
      h("button", { type: "button", class: "plain", "aria-label": t("Close"), onclick: close }, icon("close")),
    ),
  );
  dialog.append(h("div", { class: "drawer-body" }, build(close, dialog)));
  document.body.append(dialog);
  dialog.showModal();
  dialog.querySelector(".drawer-body :is(input, select, textarea)")?.focus();
  return dialog;
}

/** A form that shows what went wrong beside its button, and cannot be sent twice at once. */
export function form(children, label, submit, { danger } = {}) {
  const message = h("div", { "aria-live": "assertive" });
  const button = h("button", { type: "submit", class: danger ? "danger" : "primary" }, label);
  const element = h("form", { novalidate: false }, children, message, h("div", { class: "actions" }, button));
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    element.setAttribute("aria-busy", "true");
    replace(message);
    try {
      await submit(new FormData(element));
    } catch (error) {
      replace(message, problem(error));
    } finally {
      button.disabled = false;
      element.removeAttribute("aria-busy");
    }
  });
  return element;
}

/** A labelled control; `hint` says its unit or what is expected. */
export function field(label, control, hint, kind = "") {
  const id = uniqueId("field");
  control.id = id;
  const hintId = hint && `${id}-hint`;
  if (hint) control.setAttribute("aria-describedby", hintId);
  return h("div", { class: `field ${kind}` }, h("label", { for: id }, label), control, hint && h("p", { id: hintId, class: "hint" }, hint));
}

export function input(name, attributes = {}) {
  return h("input", { name, type: "text", autocomplete: "off", ...attributes });
}

/** A select; options are [value, text] pairs. */
export function select(name, options, value, attributes = {}) {
  return h(
    "select",
    { name, ...attributes },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
  );
}

export function copyButton(text, label = t("Copy")) {
  const button = h("button", { type: "button", class: "small" }, icon("copy"), h("span", {}, label));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
      button.lastChild.textContent = t("Copied");
    } catch {
      button.lastChild.textContent = t("Select it and copy by hand");
    }
    setTimeout(() => (button.lastChild.textContent = label), 2000);
  });
  return button;
}

export function toast(text) {
  let region = document.getElementById("toasts");
  if (!region) document.body.append((region = h("div", { id: "toasts", role: "status" })));
  const item = h("p", {}, text);
  region.append(item);
  setTimeout(() => item.remove(), 5000);
}

/** Ask before something that cannot be undone. */
export function confirm(title, text, label, act) {
  drawer(title, (close) =>
    form([h("p", {}, text)], label, async () => (await act(), close()), { danger: true }),
  );
}

/** Buttons of which one is on. */
export function switches(label, options, value, choose) {
  return h(
    "div",
    { class: "switches", role: "group", "aria-label": label },
    options.map(([key, text]) =>
      h("button", { type: "button", "aria-pressed": String(key === value), onclick: () => choose(key) }, text),
    ),
  );
}

export function definition(items) {
  return h("dl", {}, items.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
