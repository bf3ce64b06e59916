import { expect, it } from 'vitest';
import { MAKES } from './makes/makes.ts';
import { samples } from './prometheus.ts';
import { figuresOf } from './questions.ts';

it('samples with and without labels, escaped ones too; all else is passed over', () => {
  const text = [
    '# HELP a:b_total of something',
    'a:b_total 3',
    'c{path="/x",text="a\\"b\\\\c\\nd"} 1.5e3 1700000000',
    'nothing NaN',
    'broken{',
    '',
  ].join('\n');
  expect([...samples(text)]).toEqual([
    { name: 'a:b_total', labels: {}, value: 3 },
    { name: 'c', labels: { path: '/x', text: 'a"b\\c\nd' }, value: 1500 },
  ]);
});

it('engines of one server add up, and of their cache the mean is in use', () => {
  const text = [0, 1]
    .map((engine) =>
      [
        `vllm:num_requests_running{engine="${engine}"} ${engine + 1}.0`,
        `vllm:kv_cache_usage_perc{engine="${engine}"} ${engine * 0.5}`,
        `vllm:cache_config_info{engine="${engine}",num_gpu_blocks="100"} 1.0`,
      ].join('\n'),
    )
    .join('\n');
  const { figures } = MAKES.vllm;
  expect(figures && figuresOf(text, figures)).toEqual({ running: 3, waiting: 0, blocksTotal: 200, blocksFree: 150 });
});
