// Elements without templates: whatever comes from data becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `on…` members are listeners, `value`, `checked`, … properties, the rest attributes. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "open", "indeterminate", "required"]);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name) && name in element) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

/** Put these children in place of whatever an element holds. */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/**
 * Return a function for after a part of the page was drawn anew: it gives a lost focus back to where it was, to the
 * same control as it is now, or else to `fallback`.
 */
export function rememberFocus() {
  const before = document.activeElement;
  const known = mark(before);
  return (fallback) => {
    if (!known || document.activeElement !== document.body) return;
    const same = before.isConnected
      ? before
      : [...document.querySelectorAll(`main ${known.tag}`)].find((one) => mark(one).text === known.text);
    (same ?? fallback)?.focus({ preventScroll: true });
  };
}

/** What a control is recognised by; null for none. */
function mark(element) {
  if (!element || element === document.body) return null;
  return { tag: element.localName, text: element.name || element.getAttribute("aria-label") || element.getAttribute("href") || element.textContent };
}

let count = 0;

/** Return an id for a label and what it labels. */
export function uniqueId(prefix = "id") {
  count += 1;
  return `${prefix}-${count}`;
}
