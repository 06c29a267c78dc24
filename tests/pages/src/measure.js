// Measures the page in the frame and leaves what it saw, as JSON, in #seen.
addEventListener("load", () => {
  const frame = document.getElementById("page");
  const page = frame.contentDocument, view = frame.contentWindow;
  const channel = (value) => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const luminance = (color) => {
    const [red, green, blue] = color.match(/[\d.]+/g).map(Number);
    return 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  };
  const style = view.getComputedStyle(page.body);
  const [light, dark] = [luminance(style.color), luminance(style.backgroundColor)].sort((a, b) => b - a);
  const texts = [];
  for (const element of page.querySelectorAll("h1, h2, p, th, td, li, b, span, text")) {
    const box = element.getBoundingClientRect();
    if (box.width > 0 && element.textContent.trim() !== "") {
      // Of a drawing, the letters shrink with it.
      const drawn = element.ownerSVGElement;
      const scale = drawn ? drawn.getBoundingClientRect().width / drawn.viewBox.baseVal.width : 1;
      texts.push([parseFloat(view.getComputedStyle(element).fontSize) * scale, element.textContent.trim()]);
    }
  }
  texts.sort((a, b) => a[0] - b[0]);
  document.getElementById("seen").textContent = JSON.stringify({
    contentWidth: page.documentElement.scrollWidth,
    lowestText: texts[0][0],
    lowestTextIs: texts[0][1],
    requests: view.performance.getEntriesByType("resource").length,
    contrast: (light + 0.05) / (dark + 0.05),
    text: page.body.innerText,
  });
});
