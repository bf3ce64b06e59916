// A Jinja template that can't hold the thread or fill the memory, whatever it says: model files are hostile until checked.
//
// @huggingface/jinja is interpreted one node at a time, and every node goes through `evaluate`: there the steps are counted and each
// value's size is checked and summed, so that loops and growing strings end at the same place on every machine. What a single built-in
// can still do (join, replace, tojson of shared lists) is one V8 call: a watchdog thread ends it after TIMEOUT_MS, and V8's own limit
// on strings (2^29 characters) bounds its memory. Templates get no object of ours but the values passed in.
import { createContext, Script } from 'node:vm';
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';

/** Characters of a template; the longest known one has about 30 000. */
export const MAX_TEMPLATE_CHARS = 262_144;
/** Nodes evaluated in one rendering. 2048 messages in a large template take about 300 000. */
export const MAX_STEPS = 2_000_000;
/** Characters of any string while rendering, the prompt included: above any context window. */
export const MAX_STRING_CHARS = 8_388_608;
/** Characters and elements of all values together, over all steps: bounds what a rendering can keep, and copy. */
export const MAX_WORK = 134_217_728;
/** Elements of any list while rendering. */
export const MAX_LIST_ITEMS = 65_536;
/** One call; a usual rendering takes under a millisecond. */
export const TIMEOUT_MS = 5000;

/** The template called raise_exception: its own words. */
export class TemplateRaised extends Error {
  override readonly name = 'TemplateRaised';
}

/** A bound was passed; the message says which. */
export class TemplateBounds extends Error {
  override readonly name = 'TemplateBounds';
}

// The package's type files import without extensions, so that Node's resolution sees none of its types: this is the part we use.
interface RuntimeValue {
  type: string;
  value: unknown;
}
interface Scope {
  set(name: string, value: unknown): unknown;
}
interface JinjaInterpreter {
  run(program: unknown): RuntimeValue;
  evaluate(statement: unknown, scope: unknown): RuntimeValue;
}
const BaseInterpreter: new (scope: Scope) => JinjaInterpreter = Interpreter;
const newScope = (): Scope => new Environment();

class BoundedInterpreter extends BaseInterpreter {
  #steps = 0;
  #work = 0;

  override evaluate(statement: unknown, scope: unknown): RuntimeValue {
    if (++this.#steps > MAX_STEPS) throw new TemplateBounds(`the chat template takes more than ${MAX_STEPS} steps`);
    const value = super.evaluate(statement, scope);
    const size = typeof value.value === 'string' || Array.isArray(value.value) ? value.value.length : 0;
    this.#work += size;
    if (this.#work > MAX_WORK) throw new TemplateBounds(`the chat template moves more than ${MAX_WORK} characters`);
    if (typeof value.value === 'string' && size > MAX_STRING_CHARS)
      throw new TemplateBounds(`the chat template makes a text of more than ${MAX_STRING_CHARS} characters`);
    if (Array.isArray(value.value) && size > MAX_LIST_ITEMS)
      throw new TemplateBounds(`the chat template makes a list of more than ${MAX_LIST_ITEMS} elements`);
    return value;
  }
}

/** Python's range(), refused before the list is made when it would be too long. */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_LIST_ITEMS))
    throw new TemplateBounds(`the chat template asks for a range of ${length} elements; at most ${MAX_LIST_ITEMS}`);
  return Array.from({ length }, (_, i) => start + i * step);
}

const MONTHS = 'January February March April May June July August September October November December'.split(' ');

/** The parts of Python's strftime that chat templates use, in UTC. */
function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const month = MONTHS[date.getUTCMonth()] ?? '';
  const parts: Record<string, string> = {
    '%Y': String(date.getUTCFullYear()),
    '%m': two(date.getUTCMonth() + 1),
    '%d': two(date.getUTCDate()),
    '%B': month,
    '%b': month.slice(0, 3),
    '%H': two(date.getUTCHours()),
    '%M': two(date.getUTCMinutes()),
    '%S': two(date.getUTCSeconds()),
    '%%': '%',
  };
  return format.replace(/%./g, (part) => parts[part] ?? part);
}

/** Runs `work` and ends it after TIMEOUT_MS, even inside one long call. */
class Watchdog {
  readonly #context: { work: () => void } = { work: () => {} };
  readonly #script = new Script('work()');

  constructor() {
    createContext(this.#context);
  }

  run(work: () => void): void {
    this.#context.work = work;
    try {
      this.#script.runInContext(this.#context, { timeout: TIMEOUT_MS });
    } catch (error) {
      // Made in the script's realm: it is an instance of another Error.
      if (typeof error === 'object' && error && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT')
        throw new TemplateBounds(`the chat template takes longer than ${TIMEOUT_MS} ms`);
      throw error;
    } finally {
      this.#context.work = () => {};
    }
  }
}

export class BoundedTemplate {
  readonly #program: unknown;
  readonly #nowMs: () => number;
  readonly #watchdog = new Watchdog();

  /** Throws TemplateBounds when the source is too long, and the parser's error when it is no template. */
  constructor(source: string, nowMs: () => number) {
    if (source.length > MAX_TEMPLATE_CHARS)
      throw new TemplateBounds(
        `the chat template has ${source.length} characters; at most ${MAX_TEMPLATE_CHARS} are supported`,
      );
    this.#nowMs = nowMs;
    let program: unknown;
    this.#watchdog.run(() => {
      program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    });
    this.#program = program;
  }

  /** Throws TemplateRaised, TemplateBounds, or the interpreter's own error. */
  render(variables: Readonly<Record<string, unknown>>): string {
    const [rendered] = this.renderAll([variables]);
    if (typeof rendered === 'string') return rendered;
    throw rendered?.error;
  }

  /** Several renderings within one TIMEOUT_MS, each with a text or what it threw. Throws TemplateBounds when the time is over. */
  renderAll(list: readonly Readonly<Record<string, unknown>>[]): (string | { error: unknown })[] {
    const rendered: (string | { error: unknown })[] = [];
    this.#watchdog.run(() => {
      for (const variables of list)
        try {
          rendered.push(this.#interpret(variables));
        } catch (error) {
          rendered.push({ error });
        }
    });
    return rendered;
  }

  #interpret(variables: Readonly<Record<string, unknown>>): string {
    const scope = newScope();
    const globals = {
      ...{ true: true, false: false, none: null, True: true, False: false, None: null },
      range,
      strftime_now: (format: unknown) => strftime(new Date(this.#nowMs()), String(format)),
      raise_exception: (message: unknown) => {
        throw new TemplateRaised(String(message));
      },
    };
    for (const [name, value] of Object.entries({ ...globals, ...variables })) scope.set(name, value);
    return String(new BoundedInterpreter(scope).run(this.#program).value);
  }
}
