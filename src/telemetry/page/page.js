// Asks for a snapshot each second and shows it. Every text goes in by textContent, so nothing in it can be code.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const KEPT = 120;
  const history = [];
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

  // What came in between two snapshots of a distribution.
  const since = (now, before) =>
    now ? now.counts.map((count, index) => count - (before ? before.counts[index] : 0)) : [];
  const quantile = (bounds, counts, q) => {
    const all = counts.reduce((sum, count) => sum + count, 0);
    if (!all) return null;
    let below = 0;
    for (let index = 0; index < counts.length; index++) {
      if (below + counts[index] >= q * all) {
        const from = index ? bounds[index - 1] : 0;
        const until = index < bounds.length ? bounds[index] : from;
        return from + (until - from) * (counts[index] ? (q * all - below) / counts[index] : 0);
      }
      below += counts[index];
    }
    return bounds[bounds.length - 1];
  };

  const bars = (id, rows, none) => {
    const box = by(id);
    box.replaceChildren();
    if (!rows.length) box.append(make("p", none, "empty"));
    const most = Math.max(...rows.map((row) => row.of), 1e-12);
    for (const row of rows) {
      const track = make("div", undefined, "track");
      const picture = draw("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" });
      picture.append(draw("rect", { width: Math.max(0, Math.min(100, 100 * row.value / most)), height: 1 }));
      track.append(picture);
      const name = make("span", row.name, "name");
      name.title = row.name;
      box.append(name, track, make("span", row.figure, "figure"));
    }
  };

  const chart = (id, points) => {
    const [width, height] = [600, 120];
    const box = by(id);
    box.replaceChildren();
    const most = Math.max(...points, 1);
    for (const part of [0.25, 0.5, 0.75]) {
      box.append(draw("line", { class: "grid", x1: 0, x2: width, y1: height * part, y2: height * part }));
    }
    if (points.length < 2) return;
    const step = width / (KEPT - 1);
    const start = width - (points.length - 1) * step;
    const line = points.map((value, index) => `${(start + index * step).toFixed(1)},${(height - 4 - (height - 12) * value / most).toFixed(1)}`);
    box.append(draw("polygon", { class: "area", points: `${start.toFixed(1)},${height} ${line.join(" ")} ${width},${height}` }));
    box.append(draw("polyline", { class: "line", points: line.join(" ") }));
  };

  const histogram = (id, counts) => {
    const [width, height] = [400, 120];
    const box = by(id);
    box.replaceChildren();
    const most = Math.max(...counts, 1);
    const step = width / counts.length;
    counts.forEach((count, index) => {
      const tall = count ? Math.max(1.5, (height - 6) * count / most) : 0;
      const bar = draw("rect", { x: index * step + 1.5, width: step - 3, y: height - tall, height: tall, rx: 1 });
      const title = draw("title", {});
      title.textContent = `${(index / counts.length).toFixed(2)} to ${((index + 1) / counts.length).toFixed(2)}: ${whole(count)}`;
      bar.append(title);
      box.append(bar);
    });
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
  const PHASES = { moving: "good", restoring: "warn", replaying: "warn" };
  const HAPPENINGS = { assigned: "good", restored: "good", reloaded: "good", revoked: "warn", retried: "warn", lost: "bad" };

  const show = (it) => {
    const before = history[0] || it;
    const minute = history.find((other) => it.now_ms - other.now_ms <= 60_000) || before;
    const last = history[history.length - 1];
    const between = last ? (it.now_ms - last.now_ms) / 1e3 : 0;
    it.rate = between > 0 ? Math.max(0, it.counts.events - last.counts.events) / between : 0;
    history.push(it);
    while (history.length > KEPT) history.shift();
    const recent = history.slice(-5).filter((other) => other !== history[0]);
    const rate = recent.length ? recent.reduce((sum, other) => sum + other.rate, 0) / recent.length : 0;

    document.title = `${short(rate)}/s · Aimpoint`;
    set("title", it.title);
    const state = by("state");
    state.textContent = it.ready ? "ready" : "not ready";
    state.className = "state " + (it.ready ? "good" : "warn");
    by("reasons").hidden = it.ready;
    set("reasons", it.reasons.join("\n"));

    set("rate", short(rate));
    set("events", `${whole(it.counts.events)} in all`);
    const counts = since(it.since_append, minute === it ? undefined : minute.since_append);
    const bounds = it.since_append ? it.since_append.bounds : [];
    const at = (q) => { const value = quantile(bounds, counts, q); return value === null ? "–" : time(value); };
    set("p50", at(0.5));
    set("p99", `p99 ${at(0.99)}, last minute`);
    const known = it.partitions.filter((one) => one.lag !== null);
    set("lag", known.length ? short(known.reduce((sum, one) => sum + one.lag, 0)) : "–");
    const behind = Math.max(0, ...known.map((one) => one.lag_seconds || 0));
    set("behind", known.length ? (behind > 0 ? `newest event ${time(behind)} old` : "nothing waits") : "not yet known");
    set("profiles", short(it.partitions.reduce((sum, one) => sum + one.profiles, 0)));
    set("bytes", bytes(it.partitions.reduce((sum, one) => sum + one.profile_bytes, 0)) + " in memory");
    set("fallbacks", share(it.counts.fallbacks, it.counts.decisions));
    set("retries", `${whole(it.retries)} of ${whole(it.commits)} commits retried`);

    const rates = history.slice(1).map((other) => other.rate);
    chart("throughput", rates);
    set("peak", rates.length ? `· at most ${short(Math.max(...rates))}` : "");
    const all = counts.reduce((sum, count) => sum + count, 0);
    const slots = counts.map((count, index) => ({
      name: index < bounds.length ? "≤ " + time(bounds[index]) : "> " + time(bounds[bounds.length - 1]),
      value: count, of: count, figure: share(count, all),
    }));
    const first = slots.findIndex((one) => one.value > 0);
    const final = slots.findLastIndex((one) => one.value > 0);
    bars("latency", first < 0 ? [] : slots.slice(first, final + 1), "No decision became visible in the last minute.");
    histogram("scores", it.scores ? it.scores.counts.slice(0, 20) : new Array(20).fill(0));
    bars("segments", [...it.segments].sort((a, b) => b.count - a.count).map((one) => ({
      name: one.id, value: one.count, of: it.counts.decisions, figure: share(one.count, it.counts.decisions),
    })), "No segments are declared.");
    rows("partitions", [...it.partitions].sort((a, b) => a.number - b.number), (one) => [
      make("td", one.number),
      cell(tag(one.phase, PHASES[one.phase])),
      number(one.phase === "replaying" ? `${whole(one.left)} again` : one.lag === null ? "–" : whole(one.lag)),
      number(one.lag_seconds === null ? "–" : one.lag_seconds > 0 ? time(one.lag_seconds) : "0"),
      number(whole(one.profiles)),
      number(one.worker),
    ], "No partition is held.");
    const spent = (it.now_ms - minute.now_ms) / 1e3;
    bars("stages", ["decode", "profile", "score", "target", "encode", "send", "commit"].map((name) => {
      const value = spent > 0 ? (it.stages[name] - minute.stages[name]) / spent : 0;
      return { name, value, of: Math.max(value, 0.01), figure: (100 * value).toFixed(1) + " %" };
    }), "");
    bars("dead", Object.entries(it.dead_letters).sort((a, b) => b[1] - a[1]).map(([name, count]) => ({
      name: name.replaceAll("_", " "), value: count, of: count, figure: whole(count),
    })), "None: every record could be read.");
    rows("seen", it.seen.slice(0, 12), (one) => [
      make("td", clock(one.at_ms)),
      make("td", one.user, "mono"),
      number(one.score === null ? "–" : one.score.toFixed(3)),
      cell(...(one.segments.length ? one.segments.map((id) => tag(id)) : [make("span", one.status === "STATUS_FALLBACK" ? "fallback" : "none", "quiet")])),
      make("td", day(one.occurred_ms)),
    ], "No decision yet.");
    const list = by("happenings");
    list.replaceChildren();
    if (!it.happenings.length) list.append(make("li", "Nothing yet.", "quiet"));
    for (const one of it.happenings) {
      const line = make("li");
      line.append(make("time", clock(one.at_ms)), tag(one.what, HAPPENINGS[one.what]), `worker ${one.worker}: ${one.detail}`);
      list.append(line);
    }
    rows("models", it.models, (one) => [
      make("td", one.variant ? `${one.name} (${one.variant})` : one.name),
      cell(tag(one.version, "good")),
      make("td", `${one.provider}, ${one.runtime}`),
      number(one.features),
      number(one.workers),
      make("td", one.sha256.slice(0, 16), "mono"),
    ], "None: decisions have no score.");
    bars("versions", Object.entries(it.versions).sort((a, b) => b[1] - a[1]).map(([name, count]) => ({
      name: name.replaceAll("_", " "), value: count, of: count, figure: whole(count),
    })), "None has come since the start.");
    rows("shadows", it.shadows, (one) => {
      const figure = (value) => number(value === null ? "–" : value.toFixed(3));
      const passed = (one.rows.skipped || 0) + (one.rows.failed || 0) + (one.rows.unscored || 0);
      const verdict = one.psi === null ? tag("too few rows") : one.psi < 0.1 ? tag("alike", "good")
        : one.psi <= 0.25 ? tag("drifting", "warn") : tag("different", "bad");
      return [
        make("td", one.name), number(whole(one.rows.scored || 0)), number(whole(passed)), figure(one.mean),
        figure(one.champion_mean), figure(one.correlation), figure(one.psi), cell(verdict),
      ];
    }, "No shadow is declared, or none has scored yet.");
    set("about", `Aimpoint ${it.version}, ${it.workers} workers, up ${time(it.uptime_seconds)}`);
  };

  const state = (text, kind) => { const it = by("state"); it.textContent = text; it.className = "state " + kind; };
  const key = "aimpoint-token";
  const ask = async () => {
    const token = sessionStorage.getItem(key);
    try {
      const signal = AbortSignal.timeout(5_000);
      const answer = await fetch("snapshot", { signal, headers: token ? { Authorization: `Bearer ${token}` } : {} });
      by("ask").hidden = answer.status !== 401;
      if (answer.status === 401) state(token ? "wrong token" : "token?", "warn");
      else if (answer.ok) show(await answer.json());
      else state(`refused: ${answer.status}`, "bad");
    } catch {
      state("not reached", "bad");
    }
    setTimeout(ask, document.hidden ? 5_000 : 1_000);
  };
  by("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(key, by("token").value);
    by("token").value = "";
    state("connecting", "");
  });
  ask();
})();
