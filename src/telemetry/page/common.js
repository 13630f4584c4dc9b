// What the live pages have in common: numbers as text, elements, and the snapshot that they poll. All text is set through
// textContent, so it can never run as code.
const SVG = "http://www.w3.org/2000/svg";
const by = (id) => document.getElementById(id);
const make = (name, text, kind) => {
  const it = document.createElement(name);
  if (text !== undefined) it.textContent = text;
  if (kind) it.className = kind;
  return it;
};
const draw = (name, attributes) => {
  const it = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) it.setAttribute(key, value);
  return it;
};
const set = (id, text) => { by(id).textContent = text; };

const whole = (value) => Math.round(value).toLocaleString("en-US");
const short = (value) => {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]]) {
    if (value >= size) {
      const scaled = value / (unit === "k" ? 1e3 : size);
      return scaled.toLocaleString("en-US", { maximumFractionDigits: scaled < 100 ? 1 : 0 }) + " " + unit;
    }
  }
  return whole(value);
};
const bytes = (value) => {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (value >= size) return (value / size).toFixed(1) + " " + unit;
  }
  return value + " B";
};
const time = (seconds) => {
  if (seconds < 1) return Math.round(seconds * 1e3) + " ms";
  if (seconds < 90) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  if (seconds < 5400) return Math.round(seconds / 60) + " min";
  if (seconds < 172800) return Math.round(seconds / 3600) + " h";
  return whole(seconds / 86400) + " d";
};
const share = (part, all) => (all > 0 ? (100 * part / all).toFixed(1) + " %" : "–");
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
const day = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

// The next round number above: 1, 2, 5 or 10 times a power of ten.
const round = (value) => {
  const size = 10 ** Math.floor(Math.log10(value));
  return size * [1, 2, 5, 10].find((step) => step * size >= value * 0.9999);
};

// Bars of shares use one scale on the whole page: full length is 100 %. Bars of counts are scaled to the largest.
const bars = (id, rows, none) => {
  const box = by(id);
  box.replaceChildren();
  if (!rows.length) return box.append(make("p", none, "empty"));
  const most = Math.max(...rows.map((row) => row.count || 0), 1e-12);
  for (const row of rows) {
    const track = make("div", undefined, "track " + (row.kind || ""));
    const picture = draw("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    const part = row.share === undefined ? row.count / most : row.share;
    picture.append(draw("rect", { width: Math.max(0, Math.min(100, 100 * part)), height: 1 }));
    track.append(picture);
    const name = make("span", row.name, "name");
    name.title = row.name;
    const figure = row.share === undefined ? whole(row.count) : (100 * row.share).toFixed(1) + " %";
    box.append(name, track, make("span", figure, "figure"));
  }
  if (rows[0].share !== undefined) {
    const axis = make("div", undefined, "axis");
    axis.append(make("span", "0"), make("span", "50"), make("span", "100 %"));
    box.append(make("span"), axis, make("span"));
  }
};

// The top value of a chart; sets its tick labels.
const height = (id, most, text) => {
  const top = round(most);
  set(id + "-top", text(top));
  set(id + "-half", text(top / 2));
  return top;
};

// Grid lines at the ticks.
const grid = (box, width, tall) => {
  for (const y of [0.5, tall / 2]) box.append(draw("line", { class: "grid", x1: 0, x2: width, y1: y, y2: y }));
};

const rows = (id, all, cells, none) => {
  const body = by(id).tBodies[0];
  body.replaceChildren();
  if (!all.length) {
    const cell = make("td", none, "quiet");
    cell.colSpan = by(id).tHead.rows[0].cells.length;
    body.append(make("tr"));
    body.rows[0].append(cell);
  }
  for (const one of all) {
    const row = make("tr");
    row.append(...cells(one));
    body.append(row);
  }
};

const number = (text) => make("td", text, "n");
const tag = (text, kind) => make("span", text, "tag " + (kind || ""));
const cell = (...parts) => { const it = make("td"); it.append(...parts); return it; };

const state = (text, kind) => { const it = by("state"); it.textContent = text; it.className = "state " + kind; };
const key = "aimpoint-token";
const get = (path) => {
  const token = sessionStorage.getItem(key);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch(path, { signal: AbortSignal.timeout(5_000), headers });
};

// Without the token only the form to enter it is shown.
const lock = (locked) => {
  by("locked").hidden = by("ask").hidden = !locked;
  by("board").hidden = locked;
  for (const link of document.querySelectorAll("[data-raw]")) link.hidden = locked;
  if (!locked) return;
  by("raw").hidden = by("reasons").hidden = true;
  by("wrong").hidden = by("wrong").hidden && !sessionStorage.getItem(key);
  sessionStorage.removeItem(key);
  state(by("wrong").hidden ? "needs a token" : "wrong token", "warn");
};

// Shows whether the process is ready, and if not, why.
const readiness = (it) => {
  set("title", it.title);
  state(it.ready ? "ready" : "not ready", it.ready ? "good" : "warn");
  by("reasons").hidden = it.ready;
  set("reasons", it.reasons.join("\n"));
};

// Polls the snapshot with this pause, in milliseconds, and shows it.
const start = (show, interval) => {
  let next;
  const ask = async () => {
    clearTimeout(next);
    try {
      const answer = await get("snapshot");
      lock(answer.status === 401);
      document.body.classList.remove("stale");
      if (answer.ok) show(await answer.json());
      else if (answer.status !== 401) state(`refused: ${answer.status}`, "bad");
    } catch {
      // The page keeps showing the last snapshot.
      document.body.classList.add("stale");
      state("unreachable", "bad");
    }
    clearTimeout(next);
    next = setTimeout(ask, document.hidden ? 5_000 : interval);
  };
  by("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(key, by("token").value);
    by("token").value = "";
    by("wrong").hidden = true;
    state("connecting", "");
    ask();
  });

  // A plain link cannot carry the token, so its target is fetched and shown here.
  for (const link of document.querySelectorAll("[data-raw]")) {
    link.addEventListener("click", async (event) => {
      if (!sessionStorage.getItem(key)) return;
      event.preventDefault();
      const answer = await get(link.getAttribute("href"));
      set("source", link.textContent);
      set("text", await answer.text());
      by("raw").hidden = false;
      by("raw").scrollIntoView();
    });
  }
  by("close").addEventListener("click", () => { by("raw").hidden = true; });
  ask();
};

export {
  by, make, draw, set, whole, short, bytes, time, share, clock, day,
  round, bars, height, grid, rows, number, tag, cell, readiness, start,
};
