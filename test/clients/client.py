# The official Python client, driven line by line: calls as JSON on stdin, what came of each as JSON on stdout, as it comes.
import json
import sys
import threading

import openai


def run(call):
    client = openai.OpenAI(base_url=call["baseURL"], api_key=call["apiKey"], max_retries=call["maxRetries"])
    headers = {"Idempotency-Key": call["idempotencyKey"]} if call["idempotencyKey"] else {}
    answer = client.chat.completions.create(**call["body"], extra_headers=headers)
    if not call["body"].get("stream"):
        return {"text": answer.choices[0].message.content, "tokens": answer.usage.total_tokens}
    text, tokens = "", 0
    for chunk in answer:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        tokens = chunk.usage.total_tokens if chunk.usage else tokens
    return {"text": text, "tokens": tokens}


def answer(call):
    try:
        told = run(call)
    except openai.APIError as error:
        told = {"error": type(error).__name__, "status": getattr(error, "status_code", None), "code": error.code}
    sys.stdout.write(json.dumps({"id": call["id"], "told": told}) + "\n")
    sys.stdout.flush()


for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),)).start()
