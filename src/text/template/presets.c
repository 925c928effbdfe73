/* Templates by name, for models that bring none. `plain` is for base models: turns as a transcript, which they go on
 * with. The others are the formats that whole families were trained on. None holds BOS: whoever makes tokens of the
 * text adds it as the vocabulary says. */
#include <string.h>

#include "text/template/template.h"

static const struct {
    const char *name, *source;
} presets[] = {
    {"plain", "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% else %}"
              "{{ 'User' if m.role == 'user' else 'Assistant' if m.role == 'assistant' else m.role | capitalize }}: "
              "{{ m.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"},
    {"chatml", "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"},
    {"llama3", "{% for m in messages %}{{ '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\n\n' ~ "
               "m.content | trim ~ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
               "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"},
    {"mistral", "{% set system = namespace(text='') %}{% for m in messages %}{% if m.role == 'system' %}"
                "{% set system.text = m.content ~ '\n\n' %}{% elif m.role == 'user' %}"
                "{{ '[INST] ' ~ system.text ~ m.content ~ ' [/INST]' }}{% set system.text = '' %}{% else %}"
                "{{ m.content ~ eos_token }}{% endif %}{% endfor %}"},
    {"gemma", "{% set system = namespace(text='') %}{% for m in messages %}{% if m.role == 'system' %}"
              "{% set system.text = m.content ~ '\n\n' %}{% else %}{{ '<start_of_turn>' ~ ('model' if m.role == "
              "'assistant' else m.role) ~ '\n' ~ system.text ~ m.content | trim ~ '<end_of_turn>\n' }}"
              "{% set system.text = '' %}{% endif %}{% endfor %}{% if add_generation_prompt %}"
              "{{ '<start_of_turn>model\n' }}{% endif %}"},
};

const char *template_builtin(const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        if (strcmp(name, presets[i].name) == 0)
            return presets[i].source;
    return NULL;
}

const char *template_builtin_names(void)
{
    return "plain, chatml, llama3, mistral, gemma";
}
