// What stands on the screen once everything serves: address, key, and lines that work when they are copied.

export interface Ready {
  baseUrl: string;
  model: string;
  adapter: string;
  /** Development mode only. */
  apiKey: string | null;
  /** Where credentials lie. */
  credentials: string;
  log: string;
  seconds: number;
}

export function banner({ baseUrl, model, adapter, apiKey, credentials, log, seconds }: Ready): string {
  const key = apiKey ?? '<a key of a project>';
  const shellKey = apiKey ?? '$HEARTH_KEY';
  const keyNote = apiKey
    ? `development key; with the admin key in ${credentials}`
    : `made by the admin: POST ${baseUrl}/organization/projects/{id}/service_accounts`;
  return `
Hearth serves ${model} on ${adapter}, ready after ${seconds.toFixed(1)} s.

  Base URL   ${baseUrl}
  API key    ${key}
             (${keyNote})
  Logs       ${log}

Try it:

  curl ${baseUrl}/chat/completions \\
    -H 'authorization: Bearer ${shellKey}' -H 'content-type: application/json' \\
    -d '{"model":"${model}","messages":[{"role":"user","content":"What is the capital of France?"}]}'

Node (npm install openai):

  import OpenAI from 'openai';
  const client = new OpenAI({ baseURL: '${baseUrl}', apiKey: '${key}' });
  const stream = await client.chat.completions.create({
    model: '${model}', stream: true, messages: [{ role: 'user', content: 'Tell me a story.' }],
  });
  for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? '');

Python (pip install openai):

  from openai import OpenAI
  client = OpenAI(base_url='${baseUrl}', api_key='${key}')
  answer = client.chat.completions.create(model='${model}', messages=[{'role': 'user', 'content': 'Hello!'}])
  print(answer.choices[0].message.content)

Stop: Ctrl-C lets running requests finish; a second one ends at once.
`;
}
