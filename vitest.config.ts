import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{gateway,pool,engine,wgsl,test,bin,bench}/**/*.test.ts'],
    testTimeout: 300_000,
    hookTimeout: 600_000,
    // GPU tests compile shaders on the CPU and share two cores: one file at a time keeps timings and memory sane.
    fileParallelism: false,
    pool: 'forks',
  },
});
