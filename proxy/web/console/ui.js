// What pages are made of: loading, errors, tables, drawers, fields, toasts.

import { h, rememberFocus, replace, uniqueId } from "./dom.js";
import { t } from "./i18n.js";
import { dateTime, moment } from "./format.js";
import { icon } from "./icons.js";

const SKELETON_MS = 300;
const POLL_MS = 5000;

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
    draw(() => render(value));
    return value;
  } catch (error) {
    draw(() => problem(error, () => show(element, load, render)));
    return undefined;
  } finally {
    clearTimeout(timer);
    if (element.ticket === ticket) element.removeAttribute("aria-busy");
  }

  function draw(contents) {
    if (element.ticket !== ticket) return;
    const refocus = rememberFocus();
    replace(element, contents());
    refocus(element.closest("main"));
  }
}

function skeleton() {
  const label = h("p", { class: "visually-hidden", role: "status" }, t("Loading…"));
  return h("div", { class: "skeleton" }, label, h("i"), h("i"), h("i"));
}

/** While a page is there and seen, `ask` again and again; in `note` stands what went wrong, until it no longer does. */
export async function poll(signal, note, ask) {
  for (let answered = new Date().toISOString(); ; ) {
    await new Promise((next) => setTimeout(next, POLL_MS));
    if (signal.aborted) return;
    if (document.hidden) continue;
    try {
      await ask();
      answered = new Date().toISOString();
      replace(note);
    } catch (error) {
      if (!note.firstChild) replace(note, problem(error), h("p", { class: "hint" }, t("Last answered"), " ", time(answered)));
    }
  }
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

/** What is told relatively goes on with the time. */
setInterval(() => {
  for (const one of document.querySelectorAll("time[title]")) {
    const now = moment(one.dateTime);
    if (one.textContent !== now) one.textContent = now;
  }
}, POLL_MS);

/**
 * A table; columns are {title, cell, number?, class?}. On a phone each row is a card of two columns, where cells of
 * the class `full` take both. `onopen` is what a click on a row does.
 */
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

/** A list in pages: its first one as `draw` shows it, and a button for what `read` gives for a cursor. */
export function paged(first, draw, read) {
  const shown = draw(first.data);
  const more = h("div", { class: "actions" });
  offer(first.next_cursor);
  return [shown, more];

  function offer(cursor) {
    replace(more, cursor && button(t("Show older ones"), () => older(cursor)));
  }

  async function older(cursor) {
    const next = await read(cursor);
    shown.querySelector("tbody").append(...draw(next.data).querySelectorAll("tbody tr"));
    offer(next.next_cursor);
    (more.firstChild ?? shown).focus({ preventScroll: true });
  }
}

/** A button whose act may fail: it cannot be pressed twice at once, and what went wrong is said. */
export function button(label, act, { fail = (error) => toast(error.message, "bad"), ...attributes } = {}) {
  const element = h("button", { type: "button", ...attributes }, label);
  element.addEventListener("click", async () => {
    if (element.ariaDisabled) return;
    element.ariaDisabled = "true"; // Not `disabled`: that would take the focus away.
    try {
      await act();
    } catch (error) {
      fail(error);
    } finally {
      element.ariaDisabled = null;
    }
  });
  return element;
}

/** Close a dialog as Escape does: it may refuse. */
export function dismiss(dialog) {
  if (dialog.dispatchEvent(new Event("cancel", { cancelable: true }))) dialog.close();
}

/** Open a drawer; `build` gets a function that closes it. */
export function drawer(title, build) {
  const id = uniqueId("drawer");
  const refocus = rememberFocus();
  const close = () => dialog.close();
  const dialog = h(
    "dialog",
    { class: "drawer", "aria-labelledby": id, onclose: () => (dialog.remove(), refocus(document.querySelector("main"))) },
    h(
      "header",
      {},
      h("h2", { id }, title),
      h("button", { type: "button", class: "plain", "aria-label": t("Close"), onclick: () => dismiss(dialog) }, icon("close")),
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
  const element = h("form", {}, children, message, h("div", { class: "actions" }, button));
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

/** The search field of a page; a slash leads to it. */
export function searchField(value, attributes) {
  return field(t("Search"), input("search", { type: "search", "aria-keyshortcuts": "/", value, ...attributes }), null, "grow");
}

/** A select; `pairs` are [value, text]. */
export const select = (name, pairs, value, attributes = {}) => h("select", { name, ...attributes }, options(pairs, value));

export const options = (pairs, value) => pairs.map(([key, text]) => h("option", { value: key, selected: key === value }, text));

/** A button that copies a text, and calls `done` when it did. */
export function copyButton(text, label = t("Copy"), done = () => {}) {
  const button = h("button", { type: "button", class: "small" }, icon("copy"), h("span", { "aria-live": "polite" }, label));
  button.addEventListener("click", async () => {
    const copied = await copy(text, button);
    button.lastChild.textContent = copied ? t("Copied") : t("Select it and copy by hand");
    if (copied) done();
    setTimeout(() => (button.lastChild.textContent = label), copied ? 2000 : 10000);
  });
  return button;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over http there is no clipboard, but for what is selected; beside the button, since a dialog keeps the focus in.
    const area = h("textarea", { class: "visually-hidden", value: text });
    button.after(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    button.focus();
    const code = button.closest(".code-block, .secret")?.querySelector("code");
    if (!copied && code) getSelection().selectAllChildren(code);
    return copied;
  }
}

/** Say something at the edge of the page; what went wrong (`bad`) stays longer. */
export function toast(text, kind = "") {
  const item = h("p", { class: kind, role: kind ? "alert" : null }, text);
  document.getElementById("toasts").append(item);
  setTimeout(() => item.remove(), kind ? 15000 : 5000);
}

/** Ask before something that cannot be undone. */
export function confirm(title, text, label, act) {
  drawer(title, (close) =>
    form([h("p", {}, text)], label, async () => (await act(), close()), { danger: true }),
  );
}

/** Buttons of which one is on. */
export function switches(label, options, value, choose) {
  const buttons = options.map(([key, text]) => h("button", { type: "button", onclick: () => (press(key), choose(key)) }, text));
  const press = (chosen) => options.forEach(([key], index) => buttons[index].setAttribute("aria-pressed", String(key === chosen)));
  press(value);
  return h("div", { class: "switches", role: "group", "aria-label": label }, buttons);
}

/** A bar that shows a share of a whole; the numbers stand in words beside it. */
export function track(share, warn = false) {
  const fill = h("i", {});
  fill.style.width = `${100 * Math.max(0, Math.min(1, share || 0))}%`;
  return h("div", { class: `bar-track${warn ? " warn" : ""}`, "aria-hidden": "true" }, fill);
}

export function definition(items) {
  return h("dl", {}, items.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
