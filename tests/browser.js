// Lays `given.page` out in a frame of each of `given.widths` and measures it: the width of the whole page, elements that are wider than
// their boxes or end outside of the page, text of charts that is cut off, text with too little contrast, and the boxes that scroll.
const measured = {};
const SCROLLS = ".scroll, pre";

const name = (element) => `${element.tagName.toLowerCase()}.${element.getAttribute("class") || ""}: ${element.textContent.trim().slice(0, 40)}`;

const colour = (text) => {
  const parts = text.match(/[\d.]+/g).map(Number);
  return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
};

const over = (front, back) => front.rgb.map((value, channel) => value * front.alpha + back[channel] * (1 - front.alpha));

const ground = (element, style) => {
  if (!element) return [255, 255, 255];
  const own = colour(style(element).backgroundColor);
  return own.alpha === 1 ? own.rgb : over(own, ground(element.parentElement, style));
};

// Source: WCAG 2.2, relative luminance and contrast ratio.
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

const contrast = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};

const measure = (frame, width) => {
  const page = frame.contentDocument;
  page.querySelectorAll("details").forEach((details) => { details.open = true; });
  const style = (element) => frame.contentWindow.getComputedStyle(element);
  const all = [...page.body.querySelectorAll("*")].filter((element) => !element.matches("svg *, script, style"));
  const boxes = [...page.querySelectorAll(SCROLLS)];
  const written = [...page.body.querySelectorAll("*")].filter((element) => !element.matches("title, defs *")
    && [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
  measured[width] = {
    scrollWidth: page.documentElement.scrollWidth,
    clipped: all.filter((element) => element.clientWidth && !element.matches(SCROLLS) && !element.matches("svg")
      && element.scrollWidth > element.clientWidth + 1).map(name),
    outside: all.filter((element) => !element.parentElement.closest(SCROLLS)
      && element.getBoundingClientRect().right > width + 0.5).map(name),
    cut: [...page.querySelectorAll("svg text")].filter((text) => {
      const [own, whole] = [text, text.ownerSVGElement].map((element) => element.getBoundingClientRect());
      return own.left < whole.left - 1 || own.right > whole.right + 1 || own.top < whole.top - 1 || own.bottom > whole.bottom + 1;
    }).map(name),
    faint: written.filter((element) => {
      const own = style(element);
      return contrast(colour(element.matches("svg *") ? own.fill : own.color).rgb, ground(element, style)) < 4.5;
    }).map(name),
    scrolling: boxes.filter((box) => box.scrollWidth > box.clientWidth).length,
    unmarked: boxes.filter((box) => style(box).backgroundAttachment !== "local, local, scroll, scroll, scroll").map(name),
    unreachable: boxes.filter((box) => box.tabIndex !== 0).map(name),
    texts: written.length,
    background: style(page.body).backgroundColor,
    ink: style(page.body).color,
    series: style(page.querySelector("svg path[style*='--s'], svg path[style*='--accent']") || page.body).fill,
  };
};

const next = (widths) => {
  if (!widths.length) {
    document.body.dataset.found = JSON.stringify(measured);
    return;
  }
  const frame = document.createElement("iframe");
  frame.style = `border:0;height:800px;width:${widths[0]}px`;
  frame.onload = () => { measure(frame, widths[0]); frame.remove(); next(widths.slice(1)); };
  frame.srcdoc = given.page;
  document.body.append(frame);
};
next(given.widths);
