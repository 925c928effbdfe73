// Like render.c, by @huggingface/jinja: JSON lines in, JSON lines out.
import { createInterface } from "node:readline";
import { Template } from "@huggingface/jinja";

for await (const line of createInterface({ input: process.stdin })) {
  const { template, variables } = JSON.parse(line);
  try {
    process.stdout.write(JSON.stringify({ text: new Template(template).render(variables) }) + "\n");
  } catch (e) {
    process.stdout.write(JSON.stringify({ error: String(e) }) + "\n");
  }
}
