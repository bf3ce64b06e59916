// The states of a pool's engines in Prometheus' text format. Engines are configured, and states a closed set.
import { escapeLabel } from '../metrics.ts';
import { type PoolState, poolState } from '../wire/states.ts';

export interface EngineFigure {
  engine: string;
  state: PoolState;
  /** Requests that wait until it is warm. */
  waiting: number;
  deviceBytes: number;
}

export function lifecycleMetricLines(engines: readonly EngineFigure[]): string[] {
  const labelled = engines.map((one) => ({ ...one, label: `model="${escapeLabel(one.engine)}"` }));
  const gauge = (name: string, help: string, samples: readonly string[]) => [
    `# HELP hearth_pool_${name} ${help}`,
    `# TYPE hearth_pool_${name} gauge`,
    ...samples.map((sample) => `hearth_pool_${name}{${sample}`),
  ];
  return [
    ...gauge(
      'state',
      'The state of each model: 1 for the one that it is in.',
      labelled.flatMap(({ label, state }) =>
        poolState.options.map((one) => `${label},state="${one}"} ${one === state ? 1 : 0}`),
      ),
    ),
    ...gauge(
      'wake_waiting',
      'Requests that wait until the model is warm.',
      labelled.map(({ label, waiting }) => `${label}} ${waiting}`),
    ),
    ...gauge(
      'device_bytes',
      'Device memory that the model takes now.',
      labelled.map(({ label, deviceBytes }) => `${label}} ${deviceBytes}`),
    ),
  ];
}
