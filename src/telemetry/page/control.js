// The page of control.
import { bars, by, cell, clock, day, draw, grid, make, number, readiness, round, rows, set, short, start, tag, time, whole } from "./common.js";

// Sizes of a curve's picture.
const [WIDTH, TALL] = [400, 120];
const STATES = { running: "good", paced: "good", spent: "warn", unknown: "bad" };
const PLANS = { even: "evenly over the day", traffic: "like the traffic of the days before", asap: "as soon as possible" };
const METHODS = {
  weights: "chosen by weight", thompson: "Thompson sampling", linear_thompson: "linear Thompson sampling", lin_ucb: "LinUCB",
};

// An amount of millionths, with more digits if it is small.
const money = (micros, currency) => {
  const units = micros / 1e6;
  const digits = units !== 0 && Math.abs(units) < 1 ? { maximumFractionDigits: 4 } : {};
  return units.toLocaleString("en-US", { style: "currency", currency, ...digits });
};
// The label of an axis.
const amount = (micros, currency) =>
  (micros / 1e6).toLocaleString("en-US", { style: "currency", currency, notation: "compact", maximumFractionDigits: 2 });
// A share, with as many digits as a small rate needs.
const percent = (value) => {
  const it = 100 * value;
  if (it === 0 || it === 100) return it + " %";
  return (it >= 10 ? it.toFixed(1) : it >= 0.1 ? it.toFixed(2) : it.toPrecision(2)) + " %";
};
const range = ({ low, high }) => `${percent(low).replace(" %", "")}–${percent(high)}`;
const rate = (it) => (it ? percent(it.mean) : "–");
// The time in a zone, such as 14:05.
const at = (ms, zone) =>
  new Date(ms).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: zone || "UTC" });

// Sums by currency, as text; the currency of most campaigns comes first.
const sums = (campaigns, value) => {
  const all = new Map();
  for (const one of campaigns) {
    const micros = value(one);
    if (!one.currency || micros === null || micros === undefined) continue;
    const [sum, count] = all.get(one.currency) || [0, 0];
    all.set(one.currency, [sum + micros, count + 1]);
  }
  return [...all].sort((a, b) => b[1][1] - a[1][1]).map(([currency, [sum]]) => money(sum, currency));
};

const facts = (box, all) => {
  box.replaceChildren();
  for (const [name, ...parts] of all) {
    const value = make("dd");
    value.append(...parts);
    box.append(make("dt", name), value);
  }
};

const state = (it) => tag(it, STATES[it]);

// The elements of each campaign's curve stay, so that the keyboard keeps its place and opened tables stay open.
const kept = new Map();

const curve = (id) => {
  const it = {
    box: make("article", undefined, "curve"), name: make("span", id), state: make("span"), top: make("span"), half: make("span"),
    picture: draw("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${TALL}`, preserveAspectRatio: "none", role: "img" }),
    axis: make("div", undefined, "axis"), facts: make("dl"), note: make("p", undefined, "note"), table: make("table"),
    details: make("details"),
  };
  const title = make("h3");
  title.append(it.name, " ", it.state);
  const plot = make("div", undefined, "plot");
  const ticks = make("div", undefined, "ticks");
  ticks.setAttribute("aria-hidden", "true");
  ticks.append(it.top, it.half, make("span", "0"));
  plot.append(ticks, it.picture, it.axis);
  const scroll = make("div", undefined, "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", `Spend of ${id} by hour`);
  scroll.append(it.table);
  it.details.append(make("summary", "By hour"), scroll);
  it.box.append(title, plot, it.facts, it.note, it.details);
  return it;
};

// The last value at or before a time.
const before = (points, ms) => points.reduce((found, [when, value]) => (when <= ms ? value : found), null);

const showCurve = (it, one, name) => {
  const { budget, currency } = one;
  const { plan, spent, start_ms: midnight, now_ms: now, length_ms: length, step_ms: step, zone } = budget.day;
  const figures = one.periods.today;
  const today = figures ? figures.spent_micros : 0;
  it.state.replaceChildren(state(name));
  const top = round(Math.max(budget.today_micros || 0, today, 1));
  it.top.textContent = amount(top, currency);
  it.half.textContent = amount(top / 2, currency);
  const place = ([ms, micros]) => `${(WIDTH * ms / length).toFixed(1)},${(TALL - TALL * micros / top).toFixed(1)}`;
  const line = (points, kind) => draw("polyline", { class: kind, points: points.map(place).join(" ") });
  it.picture.replaceChildren();
  const planned = plan ? plan.map((micros, index) => [index * step, micros]) : [];
  const known = [...spent, [now, today]].filter(([ms]) => ms <= now);
  const [first] = known;
  const area = [[0, 0], ...known, [now, 0]].map(place).join(" ");
  it.picture.append(draw("polygon", { class: "area", points: area }));
  grid(it.picture, WIDTH, TALL);
  if (plan) it.picture.append(line(planned, "line plan"));
  if (first[0] > 0) it.picture.append(line([[0, 0], first], "line before"));
  it.picture.append(line(known, "line"));
  it.picture.append(draw("line", { class: "now", x1: WIDTH * now / length, x2: WIDTH * now / length, y1: 0, y2: TALL }));
  it.axis.replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((part) => make("span", at(midnight + part * length, zone))));

  const of = (part, all) => (all === null ? money(part, currency) : `${money(part, currency)} of ${money(all, currency)} (${percent(all > 0 ? part / all : 0)})`);
  const total = one.periods.all ? one.periods.all.spent_micros : 0;
  const distance = budget.planned_micros === null ? 0 : today - budget.planned_micros;
  const off = budget.planned_micros > 0 ? Math.abs(distance) / budget.planned_micros : 0;
  const sense = off < 0.005 ? "on plan" : `${percent(off)} ${distance > 0 ? "ahead" : "behind"}`;
  const list = [
    ["Today", of(today, budget.today_micros)],
    ["Plan by now", budget.planned_micros === null ? "–" : budget.mode === "asap" ? "no limit but the budget" : `${money(budget.planned_micros, currency)}: ${sense}`],
    ["In total", of(total, budget.total_micros)],
    ["Pass-through", budget.pass_through === null ? "–" : `${percent(budget.pass_through)} of its decisions`],
    ["Pacing", PLANS[budget.mode] + (budget.mode === "traffic" && !budget.has_forecast ? "; evenly until a whole day is known" : "")],
  ];
  facts(it.facts, list);
  const begin = first[0] > 0 ? `The curve begins at ${at(midnight + first[0], zone)}, since this process leads. ` : "";
  it.note.textContent = `${begin}Times in ${zone || "UTC"}.`;
  it.picture.setAttribute("aria-label", `${one.id}, ${name}: spent ${list[0][1]} today, plan by now ${list[1][1]}`);

  const head = make("thead");
  const titles = make("tr");
  titles.append(make("th", "Until"), make("th", "Plan", "n"), make("th", "Spent", "n"));
  head.append(titles);
  const body = make("tbody");
  for (let ms = 3_600_000; ms <= length; ms += 3_600_000) {
    const row = make("tr");
    const value = ms > now ? null : before(known, ms);
    row.append(make("td", at(midnight + ms, zone)),
      number(plan ? money(plan[Math.round(ms / step)], currency) : "–"),
      number(ms > now ? "" : value === null ? "not known" : money(value, currency)));
    body.append(row);
  }
  it.table.replaceChildren(head, body);
};

const showCurves = (campaigns, name) => {
  const drawn = campaigns.filter((one) => one.budget && one.budget.day);
  by("curves-none").hidden = campaigns.some((one) => one.budget);
  const ids = new Set(drawn.map((one) => one.id));
  for (const [id, it] of kept) {
    if (ids.has(id)) continue;
    it.box.remove();
    kept.delete(id);
  }
  for (const one of drawn) {
    if (!kept.has(one.id)) {
      kept.set(one.id, curve(one.id));
      by("curves").append(kept.get(one.id).box);
    }
    showCurve(kept.get(one.id), one, name(one));
  }
};

// A rate with its range: a bar and a mark on a scale from 0.
const spread = (it, top) => {
  const box = make("div", undefined, "spread");
  if (!it) return box;
  const picture = draw("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  const part = (value) => 100 * Math.min(1, value / top);
  picture.append(
    draw("rect", { class: "range", x: part(it.low), width: Math.max(0.5, part(it.high) - part(it.low)), y: 0.3, height: 0.4 }),
    draw("line", { class: "mean", x1: part(it.mean), x2: part(it.mean), y1: 0, y2: 1 }),
  );
  box.append(picture);
  return box;
};

// Without a rate, `why` says so instead of a bar.
const creativeRow = (first, it, top, more, why) => {
  const row = make("tr");
  if (it) row.append(first, cell(spread(it, top)), number(rate(it)), number(range(it)), ...more);
  else {
    const text = make("td", why, "unknown");
    text.colSpan = 3;
    row.append(first, text, ...more);
  }
  return row;
};

// Why there is no rate of a creative. Only a posterior remembers what was shown before.
const unknown = (one, row) => {
  if (row.impressions) return "nothing learned yet";
  return one.is_posterior || !one.impressions_ever ? "not shown yet" : "not shown in this time";
};

const showCreatives = (all, now) => {
  by("creatives-none").hidden = all.length > 0;
  // Scrolled tables stay where they are.
  const scrolled = new Map([...by("creatives").querySelectorAll(".scroll")].map((it) => [it.getAttribute("aria-label"), it]));
  const focused = document.activeElement?.getAttribute("aria-label");
  const boxes = all.map((one) => {
    const box = make("article", undefined, "creatives");
    const title = make("h3", one.campaign + " ");
    const what = one.is_posterior ? "posterior rate of" : "observed rate of";
    const since = `impressions of the last ${time(Math.max(0, (now - one.since_ms) / 1e3))}`;
    title.append(make("span", `${METHODS[one.method]}; ${what} ${one.reward}s; ${since}`, "quiet"));
    if (!one.impressions_ever && one.rows.every((row) => !row.rate)) {
      const ids = one.rows.map((row) => row.id);
      const names = ids.length > 5 ? [...ids.slice(0, 5), `${ids.length - 5} more`] : ids;
      box.append(title, make("p", `Not shown yet: ${names.join(", ")}. Rates appear with the first impressions.`, "empty"));
      return [box];
    }
    const rates = one.rows.flatMap((row) => [row.rate, ...row.audiences.map((audience) => audience.rate)]).filter((it) => it);
    const top = round(Math.max(...rates.map((it) => it.high), 1e-6));
    const head = make("tr");
    const scale = make("th", undefined, "scale");
    if (rates.length) scale.append(make("span", "0"), make("span", `${+(100 * top).toPrecision(3)} %`));
    head.append(make("th", "Creative"), scale);
    for (const name of ["Mean", "95 % range", "Share shown", "Impressions", "Clicks", "Conversions"]) head.append(make("th", name, "n"));
    const table = make("table");
    const body = make("tbody");
    for (const row of one.rows) {
      const first = make("th", row.id, "name");
      first.scope = "row";
      body.append(creativeRow(first, row.rate, top, [
        number(row.share === null ? "–" : percent(row.share)), number(whole(row.impressions)), number(whole(row.clicks)),
        number(whole(row.conversions)),
      ], unknown(one, row)));
      for (const audience of row.audiences) {
        const name = make("td", undefined, "audience");
        name.append(make("span", `${row.id}, `, "unseen"), `in ${audience.id}`);
        const rest = make("td");
        rest.colSpan = 4;
        const part = creativeRow(name, audience.rate, top, [rest]);
        part.className = "part";
        body.append(part);
      }
    }
    table.append(make("thead"), body);
    table.tHead.append(head);
    const label = `Creatives of ${one.campaign}`;
    const scroll = make("div", undefined, "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", label);
    scroll.append(table);
    box.append(title, scroll);
    return [box, scroll, scrolled.get(label)];
  });
  const places = boxes.filter(([, scroll]) => scroll).map(([, scroll, old]) => [scroll, old ? old.scrollLeft : 0, old ? old.scrollTop : 0]);
  by("creatives").replaceChildren(...boxes.map(([box]) => box));
  for (const [scroll, left, above] of places) {
    scroll.scrollTo(left, above);
    if (focused && scroll.getAttribute("aria-label") === focused) scroll.focus({ preventScroll: true });
  }
};

const more = (id, count, what) => {
  by(id).hidden = !count;
  set(id, `${whole(count)} more ${what} not shown here.`);
};

const showCampaigns = (it, name) => {
  const period = document.querySelector("#period input:checked").value;
  rows("campaigns", it.campaigns, (one) => {
    const of = one.periods[period];
    const first = make("th", one.id, "name");
    first.scope = "row";
    const cells = [first, cell(state(name(one)))];
    const withRange = (value) => {
      const box = number(rate(value));
      if (value) box.append(make("small", range(value), "limits"));
      return box;
    };
    if (!of) return [...cells, ...new Array(9).fill("–").map(number)];
    return [
      ...cells, number(money(of.spent_micros, one.currency)), number(whole(of.impressions)), number(whole(of.clicks)),
      withRange(of.ctr), number(whole(of.conversions)), number(money(of.revenue_micros, one.currency)), number(whole(of.wins)),
      number(whole(of.losses)), withRange(of.win_rate),
    ];
  }, "No campaigns are configured.");
  more("campaigns-more", it.campaigns_left_out, "campaigns are");
};

// A figure with two decimals, marked if it is beyond what is usual.
const judged = (value, isOff) => {
  const text = value === null ? "–" : value.toFixed(2);
  const box = number(value !== null && isOff(value) ? "" : text);
  if (value !== null && isOff(value)) box.append(tag(text, "warn"));
  return box;
};

const showPredictions = (it) => {
  rows("predictions", it.predictions, (one) => {
    const first = make("th", one.campaign, "name");
    first.scope = "row";
    const withRange = (value) => {
      const box = number(rate(value));
      if (value) box.append(make("small", range(value), "limits"));
      return box;
    };
    // With few successes, a ratio far from 1 is chance.
    const isKnown = Math.max(one.positives, one.predicted) >= 100;
    return [
      first, cell(one.version || "–"), number(whole(one.labels)),
      number(one.label_age_ms === null ? "–" : time(one.label_age_ms / 1e3)), withRange(one.click_rate),
      withRange(one.conversion_rate), judged(one.calibration, (value) => isKnown && (value > 1.3 || value < 0.7)),
      judged(one.normalised_entropy, (value) => one.positives >= 100 && value > 1.01), judged(one.drift, (value) => value > 0.25),
    ];
  }, "No label is known yet: labels appear when impressions are old enough.");
  more("predictions-more", it.predictions_left_out, "versions are");
};

const showTiles = (it, now) => {
  const sum = (key) => it.campaigns.reduce((all, { periods }) => all + (periods.today ? periods.today[key] : 0), 0);
  const [spent, ...others] = sums(it.campaigns, ({ periods }) => periods.today && periods.today.spent_micros);
  set("spent", spent || "–");
  const [budget] = sums(it.campaigns, (one) => one.budget && one.budget.today_micros);
  set("spent-more", others.length ? `and ${others.join(", ")}` : budget ? `of ${budget} in budgets` : "no budgets");
  const [impressions, clicks, wins, losses] = ["impressions", "clicks", "wins", "losses"].map(sum);
  set("shown", short(impressions));
  set("clicked", impressions ? `${percent(clicks / impressions)} clicked` : "none yet");
  set("converted", short(sum("conversions")));
  set("revenue", `${sums(it.campaigns, ({ periods }) => periods.today && periods.today.revenue_micros).join(", ") || "nothing"} in revenue`);
  set("won", wins + losses ? percent(wins / (wins + losses)) : "–");
  set("auctions", `of ${short(wins + losses)} auctions with a notice`);
  const { version, issued_ms: issued } = it.policy;
  set("version", version ? `No. ${whole(version)}` : "none");
  set("issued", issued === null ? "none by this process yet" : `${time(Math.max(0, now - issued) / 1e3)} old`);
};

const showProcess = (it, now) => {
  const { policy, lag, outcomes } = it;
  const behind = it.clock_ms === null ? "–" : `${time(Math.max(0, now - it.clock_ms) / 1e3)} ago`;
  facts(by("process"), [
    ["Role", tag("leader", "good")],
    ["Leads since", `${day(it.led_since_ms)} UTC`],
    ["Policy", policy.version ? `No. ${whole(policy.version)}, every ${time(policy.interval_ms / 1e3)}` : "none yet"],
    ["Workers follow it", policy.is_followed ? tag("yes", "good") : tag("no: it is older than " + time(policy.stale_after_ms / 1e3), "bad")],
    ["Lag", `${whole(lag.decisions)} decisions, ${whole(lag.outcomes)} outcomes, ${whole(lag.audiences)} reports of audiences`],
    ["All read up to", behind],
    ["Decisions", `${whole(outcomes.decisions)} read`],
    ["Lessons", `${whole(outcomes.lessons)} impressions taught creatives`],
    ["Figures of", clock(it.at_ms)],
  ]);
};

const showLeader = (it, now) => {
  const isOld = now - it.at_ms > Math.max(it.policy.stale_after_ms, 15_000);
  by("notice").hidden = !isOld;
  set("notice", `These figures are ${time((now - it.at_ms) / 1e3)} old: nothing has been committed since.`);
  // Workers stop campaigns with a budget when the policy is too old.
  const name = (one) => (isOld && one.budget ? "unknown" : one.state);
  showTiles(it, now);
  showCurves(it.campaigns, name);
  showCampaigns(it, name);
  showCreatives(it.creatives, now);
  more("creatives-more", it.creatives_left_out, "creatives are");
  showPredictions(it);
  bars("outcomes", ["joined", "duplicate", "late", "orphan", "rejected", "parked"].map((id) => ({
    name: id === "parked" ? "parked now" : id, count: it.outcomes[id],
  })), "");
  bars("audiences", it.audiences.map(({ segtax, id, members }) => ({
    name: segtax ? `${id} (taxonomy ${segtax})` : id, count: members,
  })), "");
  by("audiences-none").hidden = it.audiences.length > 0;
  more("audiences-more", it.audiences_left_out, "segments are");
  by("forgotten").hidden = !it.outcomes.touches_evicted;
  set("forgotten", `${whole(it.outcomes.touches_evicted)} offers and impressions were forgotten early, because there were more than control.touches_max. Creatives' impressions may be incomplete.`);
  showProcess(it, now);
};

const showStandby = (it, now) => {
  const { follows } = it;
  by("notice").hidden = true;
  const isNext = it.role === "taking over";
  set("standby-title", isNext ? "Taking over" : "Standby");
  set("standby-text", isNext
    ? "The group has chosen this process to lead. It reads the state to its end, and then publishes policies."
    : "Another process leads: its page has the campaigns. This one follows its state, and takes over when it is gone.");
  const changed = follows.changed_ms === null ? "never" : `${time(Math.max(0, now - follows.changed_ms) / 1e3)} ago`;
  facts(by("standby-facts"), [
    ["Follows", make("code", follows.topic)],
    ["Caught up", follows.has_caught_up ? tag("yes", "good") : tag("not yet", "warn")],
    ["Records followed", whole(follows.records)],
    ["Last record", changed],
    ["Policy of the leader", follows.version ? `No. ${whole(follows.version)}` : "none yet"],
    ["Leader chosen by", make("code", follows.group)],
  ]);
};

let last;
const show = (it) => {
  last = it;
  readiness(it);
  const role = it.control ? it.control.role : "starting";
  if (it.ready) set("state", role);
  document.title = `${role} · Aimpoint control`;
  const leads = role === "leader";
  for (const place of document.querySelectorAll("[data-leader]")) place.hidden = !leads;
  by("standby").hidden = leads || !it.control;
  if (leads) showLeader(it.control, it.now_ms);
  else if (it.control) showStandby(it.control, it.now_ms);
  else by("notice").hidden = true;
  set("about", `Aimpoint ${it.version}, up ${time(it.uptime_seconds)}`);
};

by("period").addEventListener("change", () => last && show(last));
start(show, 2_000);
