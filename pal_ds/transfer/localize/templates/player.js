"use strict";
(() => {
  const byId = (name) => document.getElementById(name);
  const film = byId("film"), slider = byId("threshold"), timeline = byId("timeline");
  const duration = Math.max(Number(timeline.dataset.duration), 0.001);
  // Actions count from the first frame, the player from the zero of its file.
  const begin = Number(timeline.dataset.begin);
  const LANE = 22, MOST_LANES = 6;
  const actions = [...byId("actions").children].map((item) => ({
    item, start: Number(item.dataset.start), end: Number(item.dataset.end), score: Number(item.dataset.score),
    row: Number(item.dataset.class), hue: item.style.getPropertyValue("--hue"),
    name: item.querySelector("b").textContent,
  }));
  const rows = [...timeline.querySelectorAll(".row")];
  let words = null;

  const clock = (seconds) => {
    const whole = Math.round(seconds), hours = Math.floor(whole / 3600);
    const two = (value) => String(value).padStart(2, "0");
    const minutes = Math.floor(whole / 60) % 60;
    return (hours ? hours + ":" + two(minutes) : minutes) + ":" + two(whole % 60);
  };

  const move = () => {
    const now = film ? Math.max(film.currentTime - begin, 0) : 0;
    timeline.style.setProperty("--now", Math.min(now / duration, 1));
    for (const action of actions) {
      // A player may stop a little before the moment that it was asked for.
      action.item.classList.toggle("now", !action.item.hidden && action.start <= now + 0.05 && now < action.end);
    }
  };

  const seek = (seconds, play) => {
    if (!film) return;
    // A file that isn't loaded yet takes the moment along once it is.
    const go = () => { film.currentTime = begin + seconds; move(); };
    if (film.readyState >= 1) go(); else film.addEventListener("loadedmetadata", go, { once: true });
    if (play) film.play().catch(() => {});
  };

  const subtitle = (visible) => {
    if (!film || !window.VTTCue) return;
    if (!words) { words = film.addTextTrack("subtitles", "Found actions", "en"); words.mode = "showing"; }
    for (const cue of [...words.cues || []]) words.removeCue(cue);
    const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
    for (const action of visible) {
      if (action.end > action.start) words.addCue(new VTTCue(begin + action.start, begin + action.end, escaped(action.name)));
    }
  };

  const draw = () => {
    const from = Number(slider.value);
    byId("score").textContent = from.toPrecision(3);
    const visible = actions.filter((action) => action.score >= from);
    for (const action of actions) action.item.hidden = action.score < from;
    byId("count").textContent = visible.length;
    byId("none").hidden = visible.length > 0;
    rows.forEach((row, number) => {
      const track = row.querySelector(".track"), lanes = [];
      track.textContent = "";
      const mine = visible.filter((action) => action.row === number);
      row.hidden = mine.length === 0;
      for (const action of mine) {
        let lane = lanes.findIndex((end) => end <= action.start);
        if (lane < 0) lane = Math.min(lanes.length, MOST_LANES - 1);
        lanes[lane] = Math.max(lanes[lane] || 0, action.end);
        const button = document.createElement("button");
        button.type = "button";
        button.title = action.name + ", " + clock(action.start) + " to " + clock(action.end) + ", score " + action.score.toPrecision(3);
        button.setAttribute("aria-label", button.title);
        button.style.setProperty("--hue", action.hue);
        button.style.left = 100 * action.start / duration + "%";
        button.style.width = 100 * (action.end - action.start) / duration + "%";
        button.style.top = 2 + LANE * lane + "px";
        button.style.opacity = 0.45 + 0.55 * action.score / Math.max(Number(slider.max), 1e-9);
        button.addEventListener("click", (event) => { event.stopPropagation(); seek(action.start, true); });
        track.append(button);
      }
      track.style.height = 2 + LANE * Math.max(lanes.length, 1) + "px";
    });
    subtitle(visible);
    move();
  };

  const ticks = () => {
    const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
    const holder = byId("ticks"), most = Math.max(2, Math.floor(holder.clientWidth / 70));
    const step = steps.find((value) => duration / value <= most) || duration / most;
    holder.textContent = "";
    for (let at = 0; at <= duration; at += step) {
      const tick = document.createElement("span");
      tick.textContent = step < 1 ? at.toFixed(1) : clock(at);
      tick.style.left = 100 * at / duration + "%";
      if (at / duration > 0.97) tick.className = "last";
      holder.append(tick);
    }
  };

  for (const action of actions) {
    action.item.querySelector("button").addEventListener("click", () => seek(action.start, true));
  }
  for (const row of rows) {
    const track = row.querySelector(".track");
    track.addEventListener("click", (event) => {
      const box = track.getBoundingClientRect();
      seek(duration * (event.clientX - box.left) / box.width, false);
    });
  }
  slider.addEventListener("input", draw);
  window.addEventListener("resize", ticks);
  if (film) {
    for (const name of ["timeupdate", "seeked", "loadedmetadata"]) film.addEventListener(name, move);
    film.addEventListener("error", () => { byId("broken").hidden = false; });
    if (film.error) byId("broken").hidden = false;
    const asked = () => {
      const moment = /^#t=([\d.]+)$/.exec(location.hash);
      if (moment) seek(Number(moment[1]), false);
    };
    window.addEventListener("hashchange", asked);
    asked();
  }
  draw();
  ticks();
})();
