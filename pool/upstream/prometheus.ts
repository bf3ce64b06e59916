// Samples of Prometheus' text format: name, labels, value. What is no sample is passed over. (Prometheus' exposition formats, text-based.)

export interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

/** A server of foreign make may tell thousands; the rest is not looked at. */
const MAX_LINES = 20_000;

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?[ \t]+(\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

export function* samples(text: string): Generator<Sample> {
  for (const line of text.split('\n', MAX_LINES)) {
    const [, name, labels = '', written] = SAMPLE.exec(line) ?? [];
    const value = Number(written);
    if (name === undefined || !Number.isFinite(value)) continue;
    yield { name, labels: Object.fromEntries(labelsOf(labels)), value };
  }
}

function* labelsOf(text: string): Generator<[string, string]> {
  for (const [, name = '', value = ''] of text.matchAll(LABEL))
    yield [name, value.replaceAll(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped))];
}
