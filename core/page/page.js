"use strict";
/* Shows what the daemon says of itself (core/page_view.c), as it says it. Names of files are strangers' text: they reach the page
   as text only, and what would not be seen, or would turn the line around, is spelled out. */
(function () {
  const TROUBLE = { "down": 1, "stopped": 2, "vetoed": 2, "no source": 3 };
  const STATES = ["stopped", "vetoed", "no source", "down", "sending", "waiting", "idle"];
  const syncs = new Map(); /* name -> { data, at, item, parts, open } */
  let order = [], daemon = null, shown = "", resort = true;
  const $ = (id) => document.getElementById(id);
  const list = $("syncs"), search = $("search"), sorting = $("order");

  /* ---- texts ---- */

  function safe(text) {
    /* Bytes that are no UTF-8 come as lone surrogates U+DC80 to U+DCFF. */
    return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g,
      (c) => {
        const code = c.charCodeAt(0);
        if (c.length === 2)
          return c;
        if (code >= 0xdc80 && code <= 0xdcff)
          return "\\" + (code - 0xdc00).toString(8);
        return code < 0x80 ? "\\" + code.toString(8).padStart(3, "0") : "\\u" + code.toString(16).padStart(4, "0");
      });
  }
  function bytes(n) {
    const units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let i = 0;
    while (n >= 999.5 && i < units.length - 1) { n /= 1000; i++; }
    return (i === 0 || n >= 100 ? n.toFixed(0) : n.toFixed(1)) + " " + units[i];
  }
  function count(n) { return n.toLocaleString("en"); }
  function span(s) {
    if (s < 10) return s.toFixed(1) + " s";
    if (s < 120) return s.toFixed(0) + " s";
    if (s < 7200) return Math.floor(s / 60) + " min";
    if (s < 172800) return Math.floor(s / 3600) + " h";
    return Math.floor(s / 86400) + " d";
  }
  function ago(t) { return t && daemon ? span(Math.max(0, Math.floor(daemon.now - t))).replace(/\.0 s$/, " s") + " ago" : ""; }
  function when(t) { return t ? new Date(t * 1000).toLocaleString() : "not yet"; }

  /* ---- elements ---- */

  function make(tag, className, text) {
    const e = document.createElement(tag);
    if (className) e.className = className;
    if (text !== undefined) e.textContent = text;
    return e;
  }
  /* A text that stays the same is left alone: a selection survives, and a reader is not told again. */
  function put(e, text) { if (e.textContent !== text) e.textContent = text; }
  function mark(e, className) { if (e.className !== className) e.className = className; }

  function sparkline(svg, path, trend) {
    const max = Math.max.apply(null, trend.concat([1]));
    const step = 120 / Math.max(1, trend.length - 1);
    let d = "";
    if (trend.length > 0) {
      d = "M0 24";
      trend.forEach((v, i) => { d += "L" + (i * step).toFixed(1) + " " + (23 - 21 * v / max).toFixed(1); });
      d += "L120 24";
    }
    if (path.getAttribute("d") !== d) {
      path.setAttribute("d", d);
      svg.setAttribute("aria-label", trend.length ? "throughput, at most " + bytes(max) + "/s" : "nothing was sent");
    }
  }

  function build(s) {
    const svgNs = "http://www.w3.org/2000/svg";
    const p = s.parts = {};
    s.item = make("li");
    p.row = make("button", "row");
    p.row.type = "button";
    p.row.setAttribute("aria-expanded", "false");
    p.state = make("span", "state");
    p.title = make("span", "title");
    p.name = make("span", "name");
    p.ends = make("span", "muted ends");
    p.title.append(p.name, p.ends);
    p.lag = make("span", "num lag");
    p.pending = make("span", "num pending");
    p.trend = make("span", "trend");
    p.svg = document.createElementNS(svgNs, "svg");
    p.svg.setAttribute("class", "spark");
    p.svg.setAttribute("viewBox", "0 0 120 24");
    p.svg.setAttribute("preserveAspectRatio", "none");
    p.svg.setAttribute("role", "img");
    p.path = document.createElementNS(svgNs, "path");
    p.svg.append(p.path);
    p.trend.append(p.svg);
    p.rate = make("span", "num rate");
    p.failed = make("span", "num failed");
    p.done = make("span", "num muted done");
    p.sub = make("span", "sub");
    p.row.append(p.state, p.title, p.lag, p.pending, p.trend, p.rate, p.failed, p.done, p.sub);
    p.row.addEventListener("click", () => { s.open = !s.open; draw(s); });
    s.item.append(p.row);
  }

  /* What a row says in its second line: why it does not go on, or what it is doing. */
  function remark(d) {
    if (d.reason && (TROUBLE[d.state] || d.state !== "idle")) return safe(d.reason);
    if (d.failures.length) {
      const f = d.failures[0];
      return (d.failed > 1 ? count(d.failed) + " failed, one of them " : "failed: ") + safe(f.path || ".") + ": " + safe(f.reason || "no reason was given");
    }
    if (d.progress && d.progress.path) return safe((d.progress.phase ? d.progress.phase + ": " : "") + d.progress.path);
    if (d.progress && d.progress.phase) return safe(d.progress.phase);
    if (!d.started) return "the first comparison is not over";
    return "";
  }

  function draw(s) {
    const d = s.data, p = s.parts, text = remark(d);
    mark(p.state, "state s-" + d.state.replace(" ", ""));
    put(p.state, d.state);
    put(p.name, safe(d.name));
    put(p.ends, safe(d.source + " \u2192 " + d.target));
    p.title.title = safe(d.source + " \u2192 " + d.target);
    put(p.lag, d.lag > 0 ? span(d.lag) : "");
    put(p.pending, d.pending + d.in_flight > 0 ? count(d.pending + d.in_flight) : "");
    sparkline(p.svg, p.path, d.trend);
    put(p.rate, d.rate > 0 ? bytes(d.rate) + "/s" : "");
    put(p.failed, d.failed > 0 ? count(d.failed) : "");
    mark(p.failed, "num failed" + (d.failed > 0 ? " bad" : ""));
    put(p.done, ago(d.last_done));
    put(p.sub, text);
    mark(p.sub, "sub" + (TROUBLE[d.state] || d.failures.length ? " trouble" : ""));
    p.sub.hidden = text === "";
    p.row.setAttribute("aria-expanded", String(Boolean(s.open)));
    if (s.open) drawMore(s);
    else if (p.more) { p.more.remove(); p.more = null; }
  }

  function pair(dl, name, value, className) {
    if (value === null || value === undefined || value === "") return;
    dl.append(make("dt", "", name), make("dd", className || "", value));
  }

  function progressOf(d) {
    const box = make("div", "wide"), g = d.progress;
    if (!g) return null;
    const bar = make("progress"), done = g.bytes_total ? g.bytes : g.files, all = g.bytes_total || g.files_total;
    const words = [];
    if (all > 0) { bar.max = all; bar.value = Math.min(done, all); }
    bar.setAttribute("aria-label", "progress of this batch");
    if (g.files_total || g.files) words.push(count(g.files) + (g.files_total ? " of " + count(g.files_total) : "") + " files");
    if (g.bytes_total || g.bytes) words.push(bytes(g.bytes) + (g.bytes_total ? " of " + bytes(g.bytes_total) : ""));
    words.push("for " + span(g.seconds));
    box.append(make("h2", "", safe(g.phase || "sending")), bar, make("p", "muted", words.join(", ")));
    if (g.path) box.append(make("p", "path", safe(g.path)));
    return box;
  }

  function listOf(title, rows, total) {
    const box = make("div", "wide"), ul = make("ul");
    box.append(make("h2", "", title));
    rows.forEach((row) => {
      const li = make("li");
      li.append(make("span", "path", safe(row.path || ".")), make("span", "", ": " + safe(row.why || "failed")), make("span", "muted", row.note || ""));
      ul.append(li);
    });
    box.append(ul);
    if (total > rows.length) box.append(make("p", "muted", "and " + count(total - rows.length) + " more: fansyncd --status names them"));
    return box;
  }

  function drawMore(s) {
    const d = s.data, more = make("div", "more"), left = make("dl"), right = make("dl"), progress = progressOf(d);
    pair(left, "Source", safe(d.source), "path");
    pair(left, "Target", safe(d.target), "path");
    pair(left, "Transport", safe(d.transport));
    if (d.tunnel) pair(left, "Tunnel", d.tunnel + ", started " + count(d.tunnel_starts) + (d.tunnel_starts === 1 ? " time" : " times") +
      (d.tunnel_said ? "; it said last: " + safe(d.tunnel_said) : ""));
    if (d.watcher) pair(left, "Watcher", d.watcher + ", " + count(d.watches) + (d.watches === 1 ? " watch" : " watches") +
      (d.unwatched ? ", " + count(d.unwatched) + " directories not watched" : "") + ": " + safe(d.watcher_reason));
    pair(left, "Why", d.reason ? safe(d.reason) : "");
    pair(left, "Last success", when(d.last_done));
    if (d.last_error) pair(left, "Last error", when(d.last_error_time) + ": " + safe(d.last_error));
    Object.keys(d.counters).forEach((k) => pair(right, k[0].toUpperCase() + k.slice(1), k === "bytes" ? bytes(d.counters[k]) : count(d.counters[k])));
    more.append(left, right);
    if (progress) more.append(progress);
    if (d.failures.length) more.append(listOf("Failures", d.failures.map((f) => ({ path: f.path, why: f.reason, note: " (" + count(f.tries) +
      (f.tries === 1 ? " try" : " tries") + (f.given_up ? ", given up" : "") + ", since " + when(f.since) + ")" })), d.failed));
    if (d.kept.length) more.append(listOf("Nothing is deleted at", d.kept.map((k) => ({ path: k.path, why: k.reason })), d.kept.length));
    /* Whoever selects text in it is not disturbed. */
    const selection = document.getSelection();
    if (s.parts.more && !selection.isCollapsed && s.parts.more.contains(selection.anchorNode)) return;
    if (s.parts.more) s.parts.more.replaceWith(more);
    else s.item.append(more);
    s.parts.more = more;
  }

  /* ---- which, and in what order ---- */

  function wanted(d) {
    const q = search.value.trim().toLowerCase();
    if (shown && d.state !== shown) return false;
    return q === "" || (d.name + "\n" + d.source + "\n" + d.target + "\n" + d.transport).toLowerCase().includes(q);
  }
  const keys = {
    trouble: (d) => -(TROUBLE[d.state] ? 10 + TROUBLE[d.state] : d.failed ? 5 : d.state === "sending" ? 2 : d.state === "waiting" ? 1 : 0),
    lag: (d) => -d.lag,
    pending: (d) => -(d.pending + d.in_flight),
    rate: (d) => -d.rate,
  };
  function sorted() {
    const all = order.map((name) => syncs.get(name)).filter(Boolean), key = keys[sorting.value];
    if (sorting.value === "name") return all.sort((a, b) => a.data.name.localeCompare(b.data.name, "en", { numeric: true }));
    return key ? all.map((s, i) => [key(s.data), i, s]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((x) => x[2]) : all;
  }
  /* Rows do not move under the pointer, nor away from who has the focus. */
  function busy() { return list.matches(":hover") || list.contains(document.activeElement); }

  function arrange(force) {
    const visible = [];
    sorted().forEach((s) => {
      s.item.hidden = !wanted(s.data);
      if (!s.item.hidden) visible.push(s);
    });
    if (force || resort || !busy()) {
      let at = list.firstElementChild;
      sorted().forEach((s) => {
        if (s.item === at) at = at.nextElementSibling;
        else list.insertBefore(s.item, at);
      });
      resort = false;
    }
    $("none").hidden = visible.length > 0 || !daemon;
    put($("none"), order.length === 0 ? "No sync is configured." : "No sync matches.");
  }

  function tally() {
    const counts = {}, box = $("states");
    syncs.forEach((s) => { counts[s.data.state] = (counts[s.data.state] || 0) + 1; });
    [""].concat(STATES).forEach((state) => {
      const id = "f-" + (state.replace(" ", "") || "all");
      let b = $(id);
      if (!b) {
        b = make("button");
        b.id = id;
        b.type = "button";
        b.append(make("b"), make("span", "", state || "all"));
        b.addEventListener("click", () => { shown = shown === state ? "" : state; tally(); arrange(true); });
        box.append(b);
      }
      put(b.firstChild, String(state === "" ? syncs.size : counts[state] || 0));
      mark(b.firstChild, state && counts[state] ? "s-" + state.replace(" ", "") : "");
      b.setAttribute("aria-pressed", String(shown === state));
      b.hidden = state !== "" && !counts[state] && shown !== state;
    });
    const trouble = (counts.down || 0) + (counts.stopped || 0) + (counts.vetoed || 0) + (counts["no source"] || 0);
    document.title = (trouble ? "(" + trouble + ") " : "") + "fansyncd";
  }

  /* ---- what comes ---- */

  function link(state, text) { document.body.classList.toggle("stale", state !== "live"); mark($("link"), "link " + state); put($("link"), text); }

  function onDaemon(e) {
    daemon = JSON.parse(e.data);
    put($("daemon"), safe(daemon.version + (daemon.config ? ", " + daemon.config : "") + ", up " + span(Math.max(0, daemon.now - daemon.started)).replace(/\.0 s$/, " s")));
    const notices = [];
    if (daemon.log_lines_lost) notices.push(count(daemon.log_lines_lost) + " lines of the log could not be written.");
    if (daemon.receiver === "down") notices.push("The receiver does not listen" + (daemon.receiver_reason ? ": " + safe(daemon.receiver_reason) : "") + ".");
    put($("notice"), notices.join(" "));
    $("notice").hidden = notices.length === 0;
    syncs.forEach((s) => put(s.parts.done, ago(s.data.last_done)));
  }
  function onOrder(e) {
    const names = new Set(order = JSON.parse(e.data));
    syncs.forEach((s, name) => { if (!names.has(name)) { s.item.remove(); syncs.delete(name); } });
    resort = true;
  }
  function onSync(e) {
    const d = JSON.parse(e.data);
    let s = syncs.get(d.name);
    if (!s) {
      s = { data: d, open: false };
      build(s);
      syncs.set(d.name, s);
      resort = true;
    }
    s.data = d;
    draw(s);
  }
  function onDone() {
    tally();
    arrange(false);
    link("live", "live");
    document.documentElement.dataset.ready = "yes";
  }

  const source = new EventSource("events");
  source.addEventListener("daemon", onDaemon);
  source.addEventListener("order", onOrder);
  source.addEventListener("sync", onSync);
  source.addEventListener("done", onDone);
  source.addEventListener("error", () => link("lost", "no connection to the daemon, trying again"));

  /* ---- keys ---- */

  search.addEventListener("input", () => arrange(true));
  sorting.addEventListener("change", () => arrange(true));
  document.addEventListener("keydown", (e) => {
    const typing = e.target.matches("input, select");
    if (e.key === "Escape" && e.target === search) { search.value = ""; arrange(true); search.blur(); return; }
    if (e.ctrlKey || e.metaKey || e.altKey || typing) return;
    if (e.key === "/") { e.preventDefault(); search.focus(); return; }
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[e.key];
    if (!step) return;
    const rows = Array.from(list.querySelectorAll("li:not([hidden]) > .row")), at = rows.indexOf(document.activeElement);
    const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
    if (next && (at >= 0 || list.contains(document.activeElement) || e.key === "j" || e.key === "k")) { e.preventDefault(); next.focus(); }
  });
})();
