"use strict";
(() => {
  const DASH = "\u2013";
  const [FEW_ROWS, FEW_COLUMNS] = [8, 4]; /* so few are seen without tools */
  const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const plain = (text) => text.normalize("NFKC").toLowerCase().replace(/\s+/g, " ").trim();
  const counted = (number) => number.toLocaleString("en");

  const make = (tag, attributes = {}, ...content) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...content);
    return element;
  };

  const button = (text, action) => {
    const made = make("button", { type: "button" }, text);
    made.addEventListener("click", action);
    return made;
  };

  const fold = (title, content) => make("details", { class: "fold" }, make("summary", {}, title), make("div", { class: "tools" }, ...content));

  /* What a cell says: its number, link, code or own text, without what is small, or the names of its chips. */
  const chips = (cell) => [...cell.querySelectorAll(":scope > .chip")].map((chip) => chip.dataset.name);
  const ownText = (cell) => {
    const main = cell.querySelector(":scope > data, :scope > a, :scope > code");
    const texts = [...cell.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data);
    return (main ? main.textContent : texts.join("")).trim();
  };
  const values = (cell) => (cell.querySelector(":scope > .chip") ? chips(cell) : [ownText(cell)]);

  const said = (cell) => [...cell.childNodes].filter((node) => !["NOSCRIPT", "AUDIO"].includes(node.nodeName)).map((node) => node.textContent).join(" ");

  /* Players come into being when they are shown: thousands of them at once take seconds. */
  const addPlayers = (part) => part.querySelectorAll("noscript").forEach((sound) =>
    sound.replaceWith(new DOMParser().parseFromString(sound.textContent, "text/html").querySelector("audio")));

  /* The number of a cell, unrounded where it is known; null where there is none. */
  const numeric = (cell) => {
    const data = cell.querySelector(":scope > data");
    const text = data ? data.value.replace("inf", "Infinity") : ownText(cell).replace(/[,%\s]/g, "").replace("\u2212", "-");
    const number = text === "" ? NaN : Number(text);
    return Number.isNaN(number) ? null : number;
  };
  const textual = (cell) => values(cell).join(" ").replace(DASH, "") || null;

  /* Columns of numbers ("none" counts as missing there) and columns in which there is nothing else are sorted as numbers. */
  const isNumbers = (cells, isDeclared) => cells.some((cell) => numeric(cell) !== null)
    && (isDeclared || cells.every((cell) => numeric(cell) !== null || cell.querySelector(":scope > data") || !textual(cell)));

  const compare = (a, b) => (typeof a === "number" ? a - b : words.compare(a, b));

  class Explored {
    constructor(box) {
      this.box = box;
      this.size = Number(box.dataset.explored);
      this.body = box.querySelector("tbody");
      this.rows = [...this.body.rows];
      this.heads = [...box.querySelector("thead").rows].at(-1).cells;
      this.hidden = new Set([...this.heads].flatMap((head, place) => ("hidden" in head.dataset ? [place] : [])));
      this.filters = new Map(); /* column → test of a row */
      this.found = null;
      this.page = 0;
      this.sorted = { place: -1, sign: 1 };
      this.isNumeric = [...this.heads].map((head, place) =>
        isNumbers(this.rows.map((row) => row.cells[place]), head.classList.contains("number")));
      this.addTools();
      this.addHeads();
      this.update();
    }

    name(place) {
      return this.heads[place].dataset.name;
    }

    key(row, place) {
      return (this.isNumeric[place] ? numeric : textual)(row.cells[place]);
    }

    addHeads() {
      [...this.heads].forEach((head, place) => head.replaceChildren(button(this.name(place), () => this.sort(place))));
    }

    addTools() {
      [...this.heads].forEach((head) => { head.dataset.name = head.textContent; });
      const label = this.box.getAttribute("aria-label");
      this.search = make("input", { type: "search", "aria-label": `Search in ${label}`, placeholder: "Search" });
      this.search.addEventListener("input", () => this.filter("search", this.matching(this.search.value)));
      this.count = make("output", {});
      this.clear = button("Clear", () => this.reset());
      const chosen = [...this.heads].flatMap((head, place) => (head.dataset.filter ? [this[head.dataset.filter](place)] : []));
      this.tools = make("div", { class: "tools" }, this.search, this.clear, this.count);
      this.choices = fold("Filters", chosen);
      this.choices.open = window.innerWidth > 640;
      this.tools.hidden = this.rows.length < FEW_ROWS;
      this.choices.hidden = this.tools.hidden || !chosen.length;
      this.pager = make("div", { class: "tools pager" });
      this.box.before(this.tools, this.choices, ...(this.heads.length > FEW_COLUMNS ? [this.chooser()] : []));
      this.box.after(this.pager);
    }

    /* A filter by one of a column's values. */
    choice(place) {
      const counts = new Map();
      for (const row of this.rows) for (const value of values(row.cells[place])) counts.set(value, (counts.get(value) || 0) + 1);
      const names = [...counts.keys()].sort(words.compare);
      const options = names.map((name, number) => make("option", { value: number + 1 }, `${name || DASH} (${counted(counts.get(name))})`));
      const select = make("select", {}, make("option", { value: 0 }, "all"), ...options);
      select.addEventListener("change", () => {
        const wanted = names[select.value - 1];
        this.filter(place, select.value > 0 ? (row) => values(row.cells[place]).includes(wanted) : null);
      });
      return make("label", {}, this.name(place), select);
    }

    /* A filter by the least and the greatest number of a column. */
    range(place) {
      const known = this.rows.map((row) => numeric(row.cells[place])).filter((value) => value !== null).sort((a, b) => a - b);
      const limits = [known[0], known.at(-1)].map((value, number) => make("input", {
        type: "number", step: "any", placeholder: known.length ? Number(value.toPrecision(3)) : "", "aria-label": `${number ? "greatest" : "least"} ${this.name(place)}`,
      }));
      const change = () => {
        const [low, high] = limits.map((input) => (input.value === "" ? null : Number(input.value)));
        const within = (value) => value !== null && (low === null || value >= low) && (high === null || value <= high);
        this.filter(place, low === null && high === null ? null : (row) => within(numeric(row.cells[place])));
      };
      limits.forEach((input) => input.addEventListener("input", change));
      return make("span", { class: "range", role: "group", "aria-label": this.name(place) }, this.name(place), limits[0], "to", limits[1]);
    }

    chooser() {
      const boxes = [...this.heads].map((head, place) => {
        const check = make("input", { type: "checkbox" });
        check.checked = !this.hidden.has(place);
        check.addEventListener("change", () => {
          this.hidden[check.checked ? "delete" : "add"](place);
          this.show();
        });
        return place ? make("label", {}, check, this.name(place)) : null;
      });
      return fold("Columns", boxes.filter(Boolean));
    }

    matching(query) {
      const parts = plain(query).split(" ").filter(Boolean);
      this.texts ||= new Map(this.rows.map((row) => [row, plain([...row.cells].map(said).join(" "))]));
      return parts.length ? (row) => parts.every((part) => this.texts.get(row).includes(part)) : null;
    }

    filter(name, test) {
      if (test) this.filters.set(name, test);
      else this.filters.delete(name);
      this.update();
    }

    reset() {
      for (const part of [this.search, ...this.choices.querySelectorAll("input")]) part.value = "";
      this.choices.querySelectorAll("select").forEach((select) => { select.value = 0; });
      this.filters.clear();
      this.update();
      this.search.focus();
    }

    /* The first click sorts upwards, the second downwards, the third gives the order of the page back. */
    sort(place) {
      const { place: before, sign } = this.sorted;
      this.sorted = place !== before ? { place, sign: 1 } : sign > 0 ? { place, sign: -1 } : { place: -1, sign: 1 };
      this.update();
    }

    inOrder(rows) {
      const { place, sign } = this.sorted;
      if (place < 0) return rows;
      const keyed = rows.map((row) => [row, this.key(row, place)]);
      const missing = (key) => (key === null ? 1 : 0);
      keyed.sort(([, a], [, b]) => missing(a) - missing(b) || (a === null ? 0 : sign * compare(a, b)));
      return keyed.map(([row]) => row);
    }

    update() {
      const tests = [...this.filters.values()];
      this.found = this.inOrder(this.rows.filter((row) => tests.every((test) => test(row))));
      this.page = 0;
      [...this.heads].forEach((head, place) => {
        const isSorted = place === this.sorted.place;
        head.setAttribute("aria-sort", isSorted ? (this.sorted.sign > 0 ? "ascending" : "descending") : "none");
      });
      this.count.value = `${counted(this.found.length)} of ${counted(this.rows.length)} rows`;
      this.clear.hidden = !tests.length;
      this.show();
    }

    turn(pages) {
      this.page += pages;
      this.show();
      this.box.scrollTop = 0;
    }

    show(size = this.size) {
      const shown = this.found.slice(this.page * size, (this.page + 1) * size);
      shown.forEach(addPlayers);
      this.body.replaceChildren(...shown);
      const lines = this.box.querySelectorAll("tbody tr");
      for (const row of [{ cells: this.heads }, ...lines]) [...row.cells].forEach((cell, place) => { cell.hidden = this.hidden.has(place); });
      this.narrow();
      this.showPager(size);
    }

    /* Headings that columns share are as wide as those of their columns that are shown. */
    narrow() {
      const [spans, names] = this.box.querySelector("thead").rows;
      if (!names) return;
      let place = 0;
      for (const cell of spans.cells) {
        cell.dataset.width ||= cell.colSpan;
        const columns = Array.from({ length: Number(cell.dataset.width) }, (_, number) => place + number);
        place += columns.length;
        const width = columns.filter((column) => !this.hidden.has(column)).length;
        cell.hidden = !width;
        cell.colSpan = width || 1;
      }
    }

    showPager(size) {
      const first = this.page * size;
      const end = Math.min(first + size, this.found.length);
      this.pager.hidden = this.found.length <= size;
      const turns = [["\u2039 Previous", -1, first > 0], ["Next \u203a", 1, end < this.found.length]].map(([text, pages, isPossible]) => {
        const made = button(text, () => this.turn(pages));
        made.disabled = !isPossible;
        return made;
      });
      this.pager.replaceChildren(turns[0], make("span", {}, `${counted(first + 1)} to ${counted(end)} of ${counted(this.found.length)}`), turns[1]);
    }
  }

  const tables = [...document.querySelectorAll("[data-explored]")].map((box) => new Explored(box));
  addPlayers(document);
  window.addEventListener("beforeprint", () => tables.forEach((table) => { table.page = 0; table.show(Infinity); }));
  window.addEventListener("afterprint", () => tables.forEach((table) => table.show()));

  document.addEventListener("play", (event) => {
    document.querySelectorAll("audio").forEach((player) => { if (player !== event.target) player.pause(); });
  }, true);

  /* The navigation marks the section that is read. */
  const links = [...document.querySelectorAll("nav a")];
  const nav = document.querySelector("nav");
  const follow = () => {
    const top = (link) => document.getElementById(link.getAttribute("href").slice(1)).getBoundingClientRect().top;
    const read = links.filter((link) => top(link) < window.innerHeight / 3).at(-1);
    if (read?.hasAttribute("aria-current")) return;
    links.forEach((link) => link.removeAttribute("aria-current"));
    if (!read) return;
    read.setAttribute("aria-current", "true");
    nav.scrollLeft = read.offsetLeft - nav.clientWidth / 2;
  };
  const fit = () => { document.documentElement.style.scrollPaddingTop = `${nav.offsetHeight + 8}px`; };
  window.addEventListener("scroll", follow, { passive: true });
  window.addEventListener("resize", fit);
  fit();

  /* Tooltips of charts: for the mouse, for fingers, and for the keyboard, where the arrows go from one mark to the next. */
  const tip = make("div", { class: "tip", role: "status", hidden: "" });
  document.body.append(tip);
  let marked = null;

  const hide = () => {
    tip.hidden = true;
    marked?.classList.remove("on");
    marked = null;
  };

  const show = (mark, x, y) => {
    hide();
    marked = mark;
    mark.classList.add("on");
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const right = document.documentElement.clientWidth - width - 8;
    tip.style.left = `${Math.max(Math.min(x - width / 2, right), 8)}px`;
    tip.style.top = `${y - height - 12 > 0 ? y - height - 12 : y + 18}px`;
  };

  const showAbove = (mark) => {
    const { left, top, width } = mark.getBoundingClientRect();
    show(mark, left + width / 2, top);
  };

  const bring = (mark) => {
    mark.scrollIntoView({ block: "nearest", inline: "nearest" });
    showAbove(mark);
  };

  for (const chart of document.querySelectorAll("svg")) {
    chart.querySelectorAll("title").forEach((title) => {
      title.parentElement.dataset.tip = title.textContent;
      title.remove(); /* else the browser shows a second tooltip */
    });
    for (const group of chart.querySelectorAll("[data-tips]")) {
      const texts = JSON.parse(group.dataset.tips);
      [...group.querySelectorAll("use, path")].filter((part) => !part.closest("defs")).forEach((part, place) => {
        if (place in texts) part.dataset.tip = texts[place];
      });
    }
    const marks = [...chart.querySelectorAll("[data-tip]")];
    if (!marks.length) continue;
    chart.tabIndex = 0;
    let place = 0;
    const steps = { ArrowRight: () => place + 1, ArrowLeft: () => place - 1, Home: () => 0, End: () => marks.length - 1 };
    chart.addEventListener("focus", () => { if (chart.matches(":focus-visible")) bring(marks[place]); });
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      if (!steps[event.key]) return;
      event.preventDefault();
      place = Math.max(Math.min(steps[event.key](), marks.length - 1), 0);
      bring(marks[place]);
    });
    chart.addEventListener("pointerover", (event) => {
      const mark = event.target.closest("[data-tip]");
      if (mark) show(mark, event.clientX, event.clientY);
      else hide();
    });
    chart.addEventListener("pointerleave", hide);
  }
  window.addEventListener("scroll", () => { if (marked) showAbove(marked); }, { passive: true, capture: true });
})();
