"use strict";

// The page is whole without this. With it, parts of the page follow the host's events.

(() => {
  const root = document.documentElement;
  const THEMES = ["auto", "light", "dark"];
  const SILENCE = 12000; // the host says something every five seconds at the latest
  const LONGEST_PAUSE = 10000;

  // The theme, before anything is drawn

  const storedTheme = () => {
    try {
      const theme = localStorage.getItem("theme");
      return THEMES.includes(theme) ? theme : "auto";
    } catch {
      return "auto"; // storage may be forbidden
    }
  };
  const showTheme = (theme) => {
    if (theme === "auto") root.removeAttribute("data-theme");
    else root.dataset.theme = theme;
  };
  showTheme(storedTheme());
  root.dataset.link = "waiting";

  // Making one tree like another, with as little change as possible: focus, selection and open details stay

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
  const isSameKind = (one, other) =>
    one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

  const followAttributes = (node, wanted) => {
    for (const { name, value } of wanted.attributes)
      if (node.getAttribute(name) !== value && !isTheirs(node, name)) node.setAttribute(name, value);
    for (const { name } of [...node.attributes])
      if (!wanted.hasAttribute(name) && !isTheirs(node, name)) node.removeAttribute(name);
  };
  const isTheirs = (node, name) => node.nodeName === "DETAILS" && name === "open";

  const follow = (node, wanted) => {
    if (node.isEqualNode(wanted)) return;
    if (node.nodeType !== Node.ELEMENT_NODE) {
      node.nodeValue = wanted.nodeValue;
      return;
    }
    followAttributes(node, wanted);
    followChildren(node, wanted);
  };

  const followChildren = (node, wanted) => {
    const keyed = new Map();
    for (const child of node.childNodes) if (keyOf(child) !== null) keyed.set(keyOf(child), child);
    let here = node.firstChild;
    for (const next of [...wanted.childNodes]) {
      const known = keyOf(next) !== null ? keyed.get(keyOf(next)) : null;
      if (known && known.nodeName === next.nodeName) {
        if (known === here) here = here.nextSibling;
        else node.insertBefore(known, here);
        keyed.delete(keyOf(next));
        follow(known, next);
      } else if (here && isSameKind(here, next)) {
        const current = here;
        here = here.nextSibling;
        follow(current, next);
      } else {
        node.insertBefore(next, here);
      }
    }
    while (here) {
      const gone = here;
      here = here.nextSibling;
      gone.remove();
    }
  };

  const PLACES = { calls: "calls-list" };
  const show = (parts) => {
    for (const [name, html] of Object.entries(parts)) {
      const wanted = document.createElement("template");
      wanted.innerHTML = html; // drawn and escaped by the host, as the page itself
      followChildren(document.getElementById(PLACES[name] || name), wanted.content);
    }
  };

  const start = () => {
    const at = (id) => document.getElementById(id);
    const form = at("filter");
    const find = form.elements.q;

    // What is said aloud: changes of the connection, of the host's state, and what a filter finds. Figures are not.

    const say = (text) => {
      at("said").textContent = text;
    };
    let state = "";
    const noteState = (isFirst) => {
      const now = at("status").querySelector("[data-kind]");
      document.title = document.title.replace(/^[^·]*/, `${now.textContent} `);
      if (now.textContent !== state && !isFirst) say(now.textContent);
      state = now.textContent;
    };

    // The connection

    let source = null;
    let isPaused = false;
    let filtered = false;
    let pause = 1000;
    let again = 0;
    let silence = 0;
    let lastNews = new Date();

    const clock = (time) => time.toISOString().slice(11, 19);
    const link = (kind, text) => {
      root.dataset.link = kind;
      if (at("link").textContent !== text) at("link").textContent = text;
      const isLost = kind === "lost";
      if (isLost && at("lost").hidden) {
        const what = `The host does not answer. What stands here is from ${clock(lastNews)} UTC. Trying again…`;
        at("lost").textContent = what;
        say(what);
      } else if (!isLost && !at("lost").hidden) {
        say("Connected again");
      }
      at("lost").hidden = !isLost;
    };

    const close = () => {
      clearTimeout(again);
      clearTimeout(silence);
      if (source) source.close();
      source = null;
    };
    const openLater = () => {
      close();
      link("lost", "Not connected");
      again = setTimeout(open, pause);
      pause = Math.min(pause * 1.5, LONGEST_PAUSE);
    };
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(openLater, SILENCE);
    };
    const open = () => {
      close();
      if (isPaused || document.hidden) return;
      source = new EventSource(`/console/events${location.search}`);
      source.addEventListener("parts", (message) => {
        const news = JSON.parse(message.data);
        if (news.build !== root.dataset.build) {
          location.reload(); // another version of the host: its parts do not fit this page
          return;
        }
        show(news.parts);
        noteState(!state);
        lastNews = new Date();
        pause = 1000;
        link("live", "Live");
        listen();
        if (filtered && news.parts.calls !== undefined) {
          filtered = false;
          say(at("calls-found").textContent);
        }
      });
      source.addEventListener("end", openLater);
      source.addEventListener("error", openLater);
      listen();
    };

    at("pause").addEventListener("click", () => {
      isPaused = !isPaused;
      at("pause").textContent = isPaused ? "Go on" : "Pause";
      if (isPaused) {
        close();
        link("paused", `Paused at ${clock(lastNews)}`);
      } else {
        open();
      }
    });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) close(); // a browser has few connections for all its tabs
      else open();
    });
    addEventListener("pagehide", close);

    // The filter

    let typing = 0;
    const filter = () => {
      const chosen = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (value) chosen.set(name, value);
      const query = chosen.toString();
      if (query === location.search.slice(1)) return;
      history.replaceState(null, "", query ? `/?${query}` : "/");
      filtered = true;
      if (isPaused) at("pause").click();
      else open();
    };
    form.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(filter, 200);
    });
    form.addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      filter();
    });
    document.addEventListener("keydown", (pressed) => {
      const isTyping = pressed.target.closest("input, select, textarea");
      if (pressed.key === "/" && !isTyping && !pressed.ctrlKey && !pressed.metaKey && !pressed.altKey) {
        pressed.preventDefault();
        find.focus();
      }
    });

    // Buttons

    const nameTheme = () => {
      at("theme").textContent = `Theme: ${storedTheme()}`;
    };
    at("theme").addEventListener("click", () => {
      const theme = THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length];
      try {
        localStorage.setItem("theme", theme);
      } catch {
        return; // without storage the browser's own choice stands
      }
      showTheme(theme);
      nameTheme();
    });
    document.addEventListener("click", async (clicked) => {
      const button = clicked.target.closest("[data-copy]");
      if (!button) return;
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        say("Copied");
      } catch {
        say("The browser does not let this page copy");
      }
    });

    nameTheme();
    at("theme").hidden = false;
    at("pause").hidden = false;
    link("waiting", "Connecting…");
    open();
  };

  document.addEventListener("DOMContentLoaded", start);
})();
