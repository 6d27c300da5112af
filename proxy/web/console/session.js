// Who is signed in. The key stays in this tab: sessionStorage, no cookie, gone when the tab closes.

const KEY = "sluice.key";
const ROLE = "sluice.role";

export const session = {
  get key() {
    return sessionStorage.getItem(KEY);
  },
  get isAdmin() {
    return sessionStorage.getItem(ROLE) === "admin";
  },
  currency: "USD",
  mode: "track",
  timezone: "UTC",
  plans: {},
  /** An API key to set up a tool with: in memory, until signing out or loading the page again. */
  toolKey: "",

  signIn(key, role) {
    sessionStorage.setItem(KEY, key);
    sessionStorage.setItem(ROLE, role);
  },
  signOut() {
    sessionStorage.removeItem(KEY);
    sessionStorage.removeItem(ROLE);
    this.toolKey = "";
  },
};
