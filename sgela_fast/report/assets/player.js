(() => {
  const source = document.getElementById("walks-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const find = (id) => document.getElementById(id);
  const [probe, play, scrub, clock, speed, stage] = ["probe", "play", "scrub", "clock", "speed", "stage"].map(find);
  const joints = data.sides.length;
  const decoded = new Map();
  const points = (walk) => {
    if (!decoded.has(walk)) {
      const bytes = Uint8Array.from(atob(walk.points), (letter) => letter.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      decoded.set(walk, Int16Array.from({ length: bytes.length / 2 }, (_, index) => view.getInt16(2 * index, true)));
    }
    return decoded.get(walk);
  };
  let panels = [];
  let seconds = 0;
  let length = 1;
  let before = null;

  const colour = (side) => getComputedStyle(document.querySelector(`.player .limb.${side}`)).color;
  const dashes = { left: [6, 4], right: [1, 4], middle: [] };
  // A limb is where it ends: the bone to a left joint is a left one.
  const draw = () => {
    const front = document.querySelector('input[name="view"]:checked').value === "front";
    const colours = { left: colour("left"), right: colour("right"), middle: colour("middle") };
    for (const { canvas, walk } of panels) {
      const ratio = Math.min(devicePixelRatio || 1, 3);
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const scale = height / 2200;
      const all = points(walk);
      const frame = Math.floor(seconds * walk.rate + 1e-6) % walk.frames;
      const place = (joint) => {
        const first = 3 * (frame * joints + joint);
        if (all[first] === data.lost) return null;
        return [width / 2 + scale * (front ? all[first] : all[first + 2]), height * 0.95 - scale * all[first + 1]];
      };
      pen.lineWidth = 3;
      pen.lineCap = "round";
      for (const [joint, parent] of data.bones) {
        const [from, to] = [place(parent), place(joint)];
        if (!from || !to) continue;
        const side = data.sides[joint];
        pen.strokeStyle = colours[side];
        pen.setLineDash(dashes[side]);
        pen.beginPath();
        pen.moveTo(...from);
        pen.lineTo(...to);
        pen.stroke();
      }
      pen.setLineDash([]);
      pen.fillStyle = colours.middle;
      for (let joint = 0; joint < joints; joint += 1) {
        const at = place(joint);
        if (!at) continue;
        pen.beginPath();
        pen.arc(...at, 2.2, 0, 2 * Math.PI);
        pen.fill();
      }
      canvas.dataset.frame = frame;
    }
    clock.textContent = `${seconds.toFixed(1)} s`;
    scrub.setAttribute("aria-valuetext", `${seconds.toFixed(1)} of ${length.toFixed(1)} seconds`);
  };
  const moveTo = (value) => {
    seconds = value;
    scrub.value = value;
    draw();
  };
  const step = (now) => {
    if (before === null) return;
    const next = seconds + (now - before) / 1000 * Number(speed.value);
    before = now;
    moveTo(next >= length ? next % length : next);
    requestAnimationFrame(step);
  };
  const playing = (wanted) => {
    before = wanted ? performance.now() : null;
    play.textContent = wanted ? "Pause" : "Play";
    if (wanted) requestAnimationFrame(step);
  };
  const choose = (index) => {
    panels = data.probes[index].walks.map(({ title, walk, remark }) => {
      const found = data.walks[walk];
      const figure = document.createElement("figure");
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${title}: skeleton of ${found.name}, ${found.person}, walking`);
      const caption = document.createElement("figcaption");
      const heading = document.createElement("strong");
      heading.textContent = title;
      caption.append(heading, `${found.name} (${found.person}), ${remark}`);
      figure.append(canvas, caption);
      return { figure, canvas, walk: found };
    });
    stage.replaceChildren(...panels.map(({ figure }) => figure));
    length = Math.max(...panels.map(({ walk }) => walk.frames / walk.rate));
    scrub.max = length;
    scrub.step = 1 / Math.max(...panels.map(({ walk }) => walk.rate));
    moveTo(0);
  };
  probe.addEventListener("change", () => choose(Number(probe.value)));
  play.addEventListener("click", () => playing(before === null));
  scrub.addEventListener("input", () => {
    playing(false);
    moveTo(Number(scrub.value));
  });
  for (const view of document.querySelectorAll('input[name="view"]')) view.addEventListener("change", draw);
  addEventListener("resize", draw);
  document.addEventListener("colours", draw);
  document.addEventListener("visibilitychange", () => document.hidden && playing(false));
  probe.value = "0";
  choose(0);
})();
