/* Starts the Jupyter widgets of a page, without a kernel, from the site's own files.
 *
 * RequireJS and the widget manager look for modules, and for the manager's icon fonts, below
 * RequireJS's base address. That is the folder of this file, wherever the page stands. They are
 * loaded last: a library that comes after RequireJS would take itself for one of its modules. */
{
  const base = new URL(".", document.currentScript.src).href;

  const load = (path, data = {}) =>
    new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), {
        src: base + path,
        onload: done,
        onerror: () => failed(new Error(`the widgets of this page need ${path}`)),
      });
      Object.assign(script.dataset, data);
      document.head.append(script);
    });

  window.addEventListener("load", async () => {
    await load("requirejs/require.js");
    require.config({ baseUrl: base, paths: { anywidget: "anywidget/dist/index" } });
    // A module that is not found is looked for at this address: the site's, not a public one.
    await load("@jupyter-widgets/html-manager/dist/embed-amd.js", { jupyterWidgetsCdn: base });
  });
}
