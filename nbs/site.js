// What the pages need beyond the renderer's own script.
(() => {
  const all = what => [...document.querySelectorAll(what)];

  // Opened from disk, a page may not fetch: the search then gets its index from a script.
  if (location.protocol === "file:") {
    const fetched = window.fetch;
    window.fetch = (what, ...how) => /search\.json$/.test(what) ? new Promise((done, failed) => {
      const index = document.createElement("script");
      index.src = String(what).replace(/json$/, "js");
      index.onload = () => done(new Response(JSON.stringify(window.courseSearch)));
      index.onerror = failed;
      document.head.append(index);
    }) : fetched(what, ...how);
  }

  // What scrolls sideways can be reached with the keyboard.
  const scrollers = () => all("main pre, main table, .math, .sd-table").forEach(e => {
    if (e.clientWidth && e.scrollWidth > e.clientWidth + 1) e.tabIndex = 0; else e.removeAttribute("tabindex"); });
  addEventListener("load", scrollers);
  addEventListener("resize", scrollers);
  document.addEventListener("toggle", scrollers, true);

  // So can the sections of the sidebar, and on a phone the sidebar says whether it is open.
  all(".sidebar-menu-container a[data-bs-toggle]").forEach(a => {
    a.tabIndex = 0;
    a.setAttribute("role", "button");
    a.addEventListener("keydown", e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); a.click(); } });
  });
  const sidebar = document.querySelector("#quarto-sidebar"), button = document.querySelector(".quarto-btn-toggle");
  if (sidebar && button) {
    const say = () => button.setAttribute("aria-expanded", sidebar.classList.contains("show"));
    say();
    new MutationObserver(say).observe(sidebar, {attributes: true, attributeFilter: ["class"]});
    document.addEventListener("keydown", e => { if (e.key === "Escape" && sidebar.classList.contains("show")) { button.click(); button.focus(); } });
  }

  // "On this page" follows the reader.
  const margin = document.querySelector("#quarto-margin-sidebar");
  if (margin) document.addEventListener("scroll", () => {
    const active = margin.querySelector("#TOC a.active");
    if (!active) return;
    const at = active.getBoundingClientRect(), box = margin.getBoundingClientRect();
    if (at.top < box.top || at.bottom > Math.min(box.bottom, innerHeight)) margin.scrollTop += at.top - (box.top + Math.min(box.bottom, innerHeight)) / 2;
  }, {passive: true});

  // On a phone there is no room beside the text: the page's contents go into a fold below its title.
  const contents = document.querySelector("#TOC > ul"), title = document.querySelector("main .quarto-title-block, main h1");
  if (contents && title) {
    const fold = document.createElement("details"), list = contents.cloneNode(true);
    list.querySelectorAll("[id]").forEach(e => e.removeAttribute("id"));
    fold.className = "course-contents";
    fold.innerHTML = "<summary>On this page</summary>";
    fold.append(list);
    title.after(fold);
    fold.addEventListener("click", e => { if (e.target.closest("a")) fold.open = false; });
  }
})();
