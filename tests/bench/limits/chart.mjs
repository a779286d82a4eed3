// A bar chart as SVG, without any library: throughput by variant and number of clients, on a logarithmic scale.
const WIDTH = 860;
const HEIGHT = 420;
const MARGIN = { top: 48, right: 20, bottom: 76, left: 64 };
const COLOURS = ['#0f766e', '#64748b', '#b91c1c', '#ea580c', '#a16207', '#7c3aed'];

export function draw(figures, names, clients) {
  const shown = Object.keys(names).filter((name) => figures[name]);
  const values = shown.flatMap((name) => clients.map((c) => figures[name][c]));
  const [low, high] = [10 ** Math.floor(Math.log10(Math.min(...values))), 10 ** Math.ceil(Math.log10(Math.max(...values)))];
  const inner = { width: WIDTH - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const y = (value) => MARGIN.top + inner.height * (1 - Math.log10(value / low) / Math.log10(high / low));
  const group = inner.width / clients.length;
  const bar = (group * 0.86) / shown.length;

  const lines = [];
  for (let decade = low; decade <= high; decade *= 10) {
    lines.push(`<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y(decade)}" y2="${y(decade)}" stroke="#cbd5e1"/>`);
    lines.push(text(MARGIN.left - 8, y(decade) + 4, decade.toLocaleString('en'), 'end'));
  }
  const bars = clients.flatMap((c, g) =>
    shown.map((name, n) => {
      const [x, top] = [MARGIN.left + g * group + group * 0.07 + n * bar, y(figures[name][c])];
      return (
        `<rect x="${x.toFixed(1)}" y="${top.toFixed(1)}" width="${(bar - 2).toFixed(1)}" height="${(MARGIN.top + inner.height - top).toFixed(1)}" fill="${COLOURS[n]}">` +
        `<title>${names[name]}, ${c} clients: ${Math.round(figures[name][c])} a second</title></rect>`
      );
    }),
  );
  const labels = clients.map((c, g) =>
    text(MARGIN.left + (g + 0.5) * group, MARGIN.top + inner.height + 18, `${c} client${c > 1 ? 's' : ''}`, 'middle'),
  );
  const legend = shown.map((name, n) => {
    const [x, line] = [MARGIN.left + (n % 3) * 265, HEIGHT - 36 + Math.floor(n / 3) * 18];
    return `<rect x="${x}" y="${line - 9}" width="10" height="10" fill="${COLOURS[n]}"/>${text(x + 16, line, names[name], 'start')}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>One hot tenant: uses a second, by number of clients</title>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>
<text x="${MARGIN.left}" y="26" font-size="15" font-weight="600" fill="#0f172a">One hot tenant: uses a second (logarithmic)</text>
${[...lines, ...bars, ...labels, ...legend].join('\n')}
</svg>
`;
}

function text(x, y, content, anchor) {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" fill="#334155">${content}</text>`;
}
