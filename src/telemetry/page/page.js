// The page of the workers.
import {
  bars, by, bytes, cell, clock, day, draw, grid, height, make, number, readiness, rows, set, share, short, start, tag, time, whole,
} from "./common.js";

// Seconds shown in the throughput chart.
const SHOWN = 120;

// The label of "last minute": shorter if the process has just started, longer if it was suspended.
const minuteName = (seconds) =>
  seconds < 55 ? `the first ${Math.round(seconds)} s` : seconds < 90 ? "last minute" : `last ${time(seconds)}`;
// A latency bucket with its unit: "10–15 ms".
const range = (from, until) => {
  if (until === undefined) return "over " + time(from);
  const [unit, size] = until < 1 ? ["ms", 1e-3] : until <= 60 ? ["s", 1] : until <= 3600 ? ["min", 60] : ["h", 3600];
  const of = (value) => String(+(value / size).toPrecision(3));
  return from > 0 ? `${of(from)}–${of(until)} ${unit}` : `under ${of(until)} ${unit}`;
};

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

const chart = (id, points) => {
  const [width, tall] = [600, 120];
  const box = by(id);
  box.replaceChildren();
  const top = height(id, Math.max(...points.map(([, value]) => value), 10), short);
  const line = points.filter(([ago]) => ago <= SHOWN).map(([ago, value]) =>
    [(width * (1 - ago / SHOWN)).toFixed(1), (tall - tall * value / top).toFixed(1)]);
  const text = line.map((point) => point.join(",")).join(" ");
  if (line.length > 1) {
    box.append(draw("polygon", { class: "area", points: `${line[0][0]},${tall} ${text} ${line[line.length - 1][0]},${tall}` }));
  }
  grid(box, width, tall);
  if (line.length > 1) box.append(draw("polyline", { class: "line", points: text }));
};

const histogram = (id, counts) => {
  const [width, tall] = [400, 120];
  const box = by(id);
  box.replaceChildren();
  const all = Math.max(counts.reduce((sum, count) => sum + count, 0), 1);
  const top = height(id, Math.max(...counts.map((count) => 100 * count / all), 1), (value) => value + " %");
  grid(box, width, tall);
  const step = width / counts.length;
  counts.forEach((count, index) => {
    const long = count ? Math.max(1.5, tall * 100 * count / all / top) : 0;
    const bar = draw("rect", { x: index * step + 1.5, width: step - 3, y: tall - long, height: long, rx: 1 });
    const title = draw("title", {});
    title.textContent = `${(index / counts.length).toFixed(2)} to ${((index + 1) / counts.length).toFixed(2)}: ${share(count, all)}, ${whole(count)}`;
    bar.append(title);
    box.append(bar);
  });
};

const PHASES = { moving: "good", restoring: "warn", replaying: "warn" };
const HAPPENINGS = { assigned: "good", restored: "good", reloaded: "good", revoked: "warn", retried: "warn", lost: "bad" };

const show = (it) => {
  const { rate, rates, minute } = it.recent;
  const span = minuteName(minute.seconds);
  for (const place of document.querySelectorAll("[data-span]")) place.textContent = span;

  document.title = `${short(rate)}/s · Aimpoint`;
  readiness(it);
  set("rate", short(rate));
  set("events", `${whole(it.counts.events)} in total`);
  const { latency, latency_bounds: bounds } = minute;
  const at = (q) => { const value = quantile(bounds, latency, q); return value === null ? "–" : time(value); };
  set("p50", at(0.5));
  set("p99", `p99 ${at(0.99)}, ${span}`);
  const known = it.partitions.filter((one) => one.lag !== null);
  set("lag", known.length ? short(known.reduce((sum, one) => sum + one.lag, 0)) : "–");
  const behind = Math.max(0, ...known.map((one) => one.lag_seconds || 0));
  set("behind", known.length ? (behind > 0 ? `newest event is ${time(behind)} old` : "no records waiting") : "not known yet");
  set("profiles", short(it.partitions.reduce((sum, one) => sum + one.profiles, 0)));
  set("bytes", bytes(it.partitions.reduce((sum, one) => sum + one.profile_bytes, 0)) + " in memory");
  set("fallbacks", share(it.counts.fallbacks, it.counts.decisions));
  set("retries", `${whole(it.retries)} of ${whole(it.commits)} commits retried`);

  chart("throughput", rates);
  const all = latency.reduce((sum, count) => sum + count, 0);
  const slots = latency.map((count, index) => ({
    name: range(index ? bounds[index - 1] : 0, bounds[index]), share: all ? count / all : 0,
  }));
  const first = slots.findIndex((one) => one.share > 0);
  const final = slots.findLastIndex((one) => one.share > 0);
  bars("latency", first < 0 ? [] : slots.slice(first, final + 1), "No decisions in this period.");
  histogram("scores", it.scores ? it.scores.counts.slice(0, 20) : new Array(20).fill(0));
  bars("segments", [...it.segments].sort((a, b) => b.count - a.count).map((one) => ({
    name: one.id, share: it.counts.decisions ? one.count / it.counts.decisions : 0,
  })), "No segments are configured.");
  rows("partitions", [...it.partitions].sort((a, b) => a.number - b.number), (one) => [
    make("td", one.number),
    cell(tag(one.phase, PHASES[one.phase])),
    number(one.phase === "replaying" ? `${whole(one.left)} to replay` : one.lag === null ? "–" : whole(one.lag)),
    number(one.lag_seconds === null ? "–" : one.lag_seconds > 0 ? time(one.lag_seconds) : "0"),
    number(whole(one.profiles)),
    number(one.worker),
  ], "No partitions are assigned.");
  // A share of 1 is all the time of all workers.
  const part = (seconds) => (minute.seconds > 0 ? seconds / (minute.seconds * Math.max(it.workers, 1)) : 0);
  const stages = ["decode", "profile", "score", "target", "encode", "send"].map((name) => ({
    name, share: part(minute.computed[name]),
  }));
  const busy = stages.reduce((sum, one) => sum + one.share, 0);
  bars("stages", [...stages, { name: "not computing", share: Math.max(0, 1 - busy), kind: "wait" }], "");
  const commit = minute.stages.commit;
  set("commits", minute.commits
    ? `Commits wait for the brokers, in parallel: ${(minute.commits / minute.seconds).toFixed(1)} a second, ${time(commit / minute.commits)} each.`
    : "No commits in this period.");
  bars("dead", Object.entries(it.dead_letters).sort((a, b) => b[1] - a[1]).map(([name, count]) => ({
    name: name.replaceAll("_", " "), count,
  })), "None: every record was readable.");
  const lasting = it.segments.map((one, index) => ({ ...one, moves: minute.moves[index] || [0, 0] }))
    .filter((one) => one.members !== null);
  by("members-card").hidden = !lasting.length;
  rows("members", lasting, (one) => [
    make("td", one.id),
    number(whole(one.members)),
    number(whole(one.moves[0])),
    number(whole(one.moves[1])),
  ], "No segment has members.");
  by("campaigns-card").hidden = !it.campaigns.length;
  rows("campaigns", it.campaigns, (one) => {
    const reasons = Object.entries(one.refused).sort((a, b) => b[1] - a[1]);
    return [
      make("td", one.id),
      number(whole(one.considered)),
      number(whole(one.chosen)),
      number(share(one.chosen, one.considered)),
      cell(...(reasons.length
        ? reasons.map(([name, count]) => tag(`${name.replaceAll("_", " ")} ${share(count, one.considered)}`))
        : [make("span", one.considered ? "never refused" : "not considered yet", "quiet")])),
    ];
  }, "No campaigns are configured.");
  rows("seen", it.seen.slice(0, 12), (one) => [
    make("td", clock(one.at_ms)),
    make("td", one.user, "mono"),
    number(one.score === null ? "–" : one.score.toFixed(3)),
    cell(...(one.segments.length ? one.segments.map((id) => tag(id)) : [make("span", one.status === "STATUS_FALLBACK" ? "fallback" : "none", "quiet")])),
    make("td", day(one.occurred_ms)),
  ], "No decisions yet.");
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
  ], "No model: decisions have no score.");
  bars("versions", Object.entries(it.versions).sort((a, b) => b[1] - a[1]).filter(([, count]) => count > 0).map(([name, count]) => ({
    name: name.replaceAll("_", " "), count,
  })), "None since the start.");
  rows("shadows", it.shadows, (one) => {
    const figure = (value) => number(value === null ? "–" : value.toFixed(3));
    const unscored = (one.rows.skipped || 0) + (one.rows.failed || 0) + (one.rows.unscored || 0);
    const verdict = one.psi === null ? tag("too few rows") : one.psi < 0.1 ? tag("similar", "good")
      : one.psi <= 0.25 ? tag("drifting", "warn") : tag("different", "bad");
    return [
      make("td", one.name), number(whole(one.rows.scored || 0)), number(whole(unscored)), figure(one.mean),
      figure(one.champion_mean), figure(one.correlation), figure(one.psi), cell(verdict),
    ];
  }, "No shadows are configured, or none has scored yet.");
  set("about", `Aimpoint ${it.version}, ${it.workers} workers, up ${time(it.uptime_seconds)}`);
};

start(show, 1_000);
