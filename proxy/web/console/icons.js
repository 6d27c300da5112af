// Line icons of one weight, drawn here.

import { s } from "./dom.js";

const PATHS = {
  overview: "M4 20V11M10 20V4M16 20v-7M21 20H3",
  keys: "M14.5 9.5a4.5 4.5 0 1 0-4 4.5l1.5-1.5h2V10.500l.5-1ZM12.500 12.500 20 20m-3-3 2-2",
  accounts: "M3 7h15a2 2 0 0 1 2 2v9a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V7Zm0 0a2 2 0 0 1 2-3h11v3M16 13.500h.01",
  models: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  requests: "M4 6h16M4 12h16M4 18h10",
  providers: "M4 5h16v5H4zM4 14h16v5H4zM7.500 7.500h.01M7.500 16.500h.01",
  chat: "M4 5h16v11H10l-5 4v-4H4z",
  setup: "M5 7l4 5-4 5M12 17h7",
  config: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.800v4.400M9 14.800v4.400",
  mykey: "M12 3l8 3v6c0 5-4 8-8 9-4-1-8-4-8-9V6zM9 12l2.200 2.200L15.500 10",
  more: "M5 11.500v1M12 11.500v1M19 11.500v1",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  close: "M6 6l12 12M18 6 6 18",
  out: "M14 4h5v16h-5M4 12h10M10 8l4 4-4 4",
};

export function icon(name) {
  return s(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    s("path", { d: PATHS[name] }),
  );
}
