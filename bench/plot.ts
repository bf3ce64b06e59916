// The rows of a report as a picture: for each figure that has a ratio a bar as long as the ratio is of its aim, with both in words. SVG by hand: it is
// text and rectangles.
import type { Report, Row } from './report.ts';

const LINE = 26;
const LABEL = 330;
const BAR = 420;
const WIDTH = LABEL + BAR + 250;
/** Longest bar, in times of the aim. */
const MOST = 2;

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

const number = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

/** 1 where the figure is just what was aimed for, more where it is better; null without an aim. */
export function ofAim({ value, aim, most }: Row): number | null {
  if (typeof aim === 'number') return value / aim;
  return typeof most === 'number' ? most / value : null;
}

const goal = ({ aim, most, unit }: Row): string => (typeof aim === 'number' ? `≥ ${aim} ${unit}` : `≤ ${most} ${unit}`);

/** An SVG document. */
export function plot({ rows, adapter, machine, commit }: Report): string {
  const bars = rows.flatMap((row) => {
    const share = ofAim(row);
    return share === null ? [] : [{ row, share }];
  });
  const body = bars.map(({ row, share }, i) => {
    const y = 60 + i * LINE;
    const width = (Math.min(share, MOST) / MOST) * BAR;
    const words = `${number(row.value)} ${row.unit}`.trim();
    return `<text x="${LABEL - 8}" y="${y + 13}" text-anchor="end">${escaped(row.name)}</text>
<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="17" fill="${share >= 1 ? '#3b7d4f' : '#b0603a'}"/>
<text x="${(LABEL + width + 8).toFixed(1)}" y="${y + 13}">${escaped(`${words}  (${goal(row).trim()})`)}</text>`;
  });
  const aimX = LABEL + BAR / MOST;
  const bottom = 60 + bars.length * LINE;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${bottom + 20}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="white"/>
<text x="16" y="22" font-weight="bold">${escaped(adapter)}</text>
<text x="16" y="42" fill="#555">${escaped(`${machine}; commit ${commit}; bars in parts of the aim, which is the line`)}</text>
${body.join('\n')}
<line x1="${aimX}" y1="52" x2="${aimX}" y2="${bottom}" stroke="#222" stroke-dasharray="4 3"/>
</svg>
`;
}
