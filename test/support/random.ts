// The seeded generator of the tests: a failure prints its seed and can be replayed.
export { randomOf } from '../../engine/llama/seededNumbers.ts';
