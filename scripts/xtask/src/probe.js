"use strict";
// Runs before a page's own scripts, and reports text that is cut off or hard to read. Once the page has been drawn, the
// attribute `data-found` of the document's root holds the list of findings.
(() => {
  const found = new Set();
  const context = CanvasRenderingContext2D.prototype, { fillText, rect, clip, restore } = context;
  const drawn = new WeakMap(), clipped = new WeakMap();
  context.rect = function (...box) { drawn.set(this, box); return rect.apply(this, box); };
  context.clip = function (...path) { if (path.length === 0) clipped.set(this, drawn.get(this)); return clip.apply(this, path); };
  context.restore = function () { clipped.delete(this); return restore.apply(this); };
  // Text on a canvas must lie within the canvas, and within the rectangle to which drawing is limited.
  context.fillText = function (text, x, y) {
    const width = this.measureText(text).width, half = this.textAlign === "center" ? 0.5 : ["right", "end"].includes(this.textAlign) ? 1 : 0;
    const matrix = this.getTransform(), [left, top, wide, high] = clipped.get(this) || [0, 0, this.canvas.width, this.canvas.height];
    for (const end of [x - half * width, x - half * width + width]) {
      const at = matrix.transformPoint({ x: end, y });
      if (at.x < left - 1 || at.x > left + wide + 1 || at.y < top - 1 || at.y > top + high + 1) found.add(`cut off on a canvas: ${text}`);
    }
    return fillText.apply(this, arguments);
  };

  const colour = text => (text.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0.05);
  const parents = element => element ? [element, ...parents(element.parentElement)] : [];
  const ground = element => {
    const painted = parents(element).map(one => colour(getComputedStyle(one).backgroundColor)).find(part => part.length === 3 || part[3] > 0);
    return painted || [255, 255, 255];
  };

  const check = (node, element) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const boxes = [...range.getClientRects()].filter(box => box.width > 1);
    if (boxes.length === 0) return;
    const text = node.textContent.trim().slice(0, 40);
    const limit = parents(element).find(one => getComputedStyle(one).overflowX !== "visible");
    // A scrollable element may be wider than its box, but its caption must be readable without scrolling.
    const scrolls = limit && limit !== document.documentElement && ["auto", "scroll"].includes(getComputedStyle(limit).overflowX);
    const right = limit ? limit.getBoundingClientRect().right : innerWidth;
    if ((!scrolls || element.closest("caption")) && boxes.some(box => box.right > right + 1)) found.add(`cut off: ${text}`);
    const pair = [light(colour(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    const contrast = pair[0] / pair[1];
    if (contrast < 4.5) found.add(`contrast ${contrast.toFixed(2)}: ${text}`);
  };

  // Every part of a chart must be readable, so use its keys to zoom in and to move.
  const moves = key => Array(12).fill(key);
  const keys = ["+", ...moves("ArrowLeft"), "+", ...moves("ArrowRight"), "+", ...moves("ArrowLeft")];
  const pause = ms => new Promise(done => setTimeout(done, ms));
  addEventListener("load", async () => {
    const root = document.documentElement, charts = document.querySelectorAll(".plot");
    for (const key of keys) {
      await pause(20);
      charts.forEach(chart => chart.dispatchEvent(new KeyboardEvent("keydown", { key })));
    }
    await pause(50);
    if (root.scrollWidth > root.clientWidth) found.add(`the page is ${root.scrollWidth} pixels wide`);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode, element = node.parentElement;
      if (node.textContent.trim() && !element.closest("script, style, option, .hidden")) check(node, element);
    }
    root.dataset.found = JSON.stringify([...found]);
  });
})();
