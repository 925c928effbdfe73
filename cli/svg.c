#include "svg.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const palette[] = {"#3b82c4", "#e07b1a", "#2a9d6f", "#c2559d",
                                      "#8b6fd1", "#d1495b", "#2a9db5", "#94861c"};
enum { N_PALETTE = sizeof palette / sizeof *palette, WIDTH = 800, CHARACTER = 7 /* width of one, about */ };

static const char *color(int i)
{
    return palette[i % N_PALETTE];
}

/* ---- text and frames ----------------------------------------------------------------------------------- */

static void put_text(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", f);
        else if (*text == '&')
            fputs("&amp;", f);
        else
            fputc(*text, f);
    }
}

/* anchor: "start", "middle", "end"; kind: t for text, m for what matters less */
static void label(FILE *f, double x, double y, const char *kind, const char *anchor, const char *text)
{
    fprintf(f, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", kind, x, y, anchor);
    put_text(f, text);
    fputs("</text>\n", f);
}

static FILE *begin(const char *path, double height, const char *title, const char *note)
{
    FILE *f = fopen(path, "we");
    if (!f)
        return NULL;
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" "
            "font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"13\">\n<style>\n"
            ".bg{fill:#ffffff}.t{fill:#1f2328}.m{fill:#59636e}.grid{stroke:#e3e6ea}.axis{stroke:#8b949e}"
            ".none{fill:#eef0f3}\n"
            "@media (prefers-color-scheme:dark){.bg{fill:#0d1117}.t{fill:#e6edf3}.m{fill:#9aa4af}.grid{stroke:#262c36}"
            ".axis{stroke:#6e7681}.none{fill:#1c222b}}\n</style>\n"
            "<rect class=\"bg\" width=\"%d\" height=\"%.0f\" rx=\"6\"/>\n",
            WIDTH, height, WIDTH, height, WIDTH, height);
    fprintf(f, "<g font-size=\"16\" font-weight=\"600\">\n");
    label(f, 20, 30, "t", "start", title);
    fputs("</g>\n", f);
    if (note)
        label(f, 20, 51, "m", "start", note);
    return f;
}

static bool end(FILE *f)
{
    fputs("</svg>\n", f);
    bool ok = !ferror(f);
    return fclose(f) == 0 && ok;
}

/* ---- scales -------------------------------------------------------------------------------------------- */

/* 1, 2 or 5 times a power of ten, so that about n steps cover the span */
static double nice_step(double span, int n)
{
    double raw = span / n, power = pow(10, floor(log10(raw))), m = raw / power;
    return power * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
}

/* Short: thousands and millions by letter, else as many decimals as the step has. */
static void tick_text(char out[32], double x, double step)
{
    static const struct {
        double size;
        const char *unit;
    } units[] = {{1e9, " G"}, {1e6, " M"}, {1e3, " k"}};
    for (int i = 0; i < 3; i++)
        if (fabs(x) >= units[i].size && step >= units[i].size / 1000) {
            snprintf(out, 32, "%g%s", round(1e6 * x / units[i].size) / 1e6, units[i].unit);
            return;
        }
    int decimals = (int)fmax(0, fmin(9, ceil(-log10(step) - 1e-9)));
    snprintf(out, 32, "%.*f", decimals, fabs(x) < step / 1e6 ? 0 : x);
}

struct axes {
    double left, right, top, bottom;   /* of the plot, in the picture */
    double x_from, x_to, y_from, y_to; /* of the data */
};

static double at_x(const struct axes *a, double x)
{
    return a->left + (x - a->x_from) / (a->x_to - a->x_from) * (a->right - a->left);
}

static double at_y(const struct axes *a, double y)
{
    return a->bottom - (y - a->y_from) / (a->y_to - a->y_from) * (a->bottom - a->top);
}

static void widen(double *from, double *to)
{
    if (!(*to > *from)) {
        double pad = fmax(fabs(*from) * 0.05, 1e-3);
        *from -= pad;
        *to += pad;
    }
    double pad = (*to - *from) * 0.06;
    *from -= pad;
    *to += pad;
}

static void y_axis(FILE *f, const struct axes *a, const char *name)
{
    double step = nice_step(a->y_to - a->y_from, 6);
    for (double y = ceil(a->y_from / step) * step; y <= a->y_to; y += step) {
        char text[32];
        tick_text(text, y, step);
        fprintf(f, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>\n", a->left, at_y(a, y), a->right);
        label(f, a->left - 8, at_y(a, y) + 4.5, "m", "end", text);
    }
    fprintf(f, "<g transform=\"translate(22 %.1f) rotate(-90)\">\n", (a->top + a->bottom) / 2);
    label(f, 0, 0, "m", "middle", name);
    fputs("</g>\n", f);
}

static void x_axis(FILE *f, const struct axes *a, const char *name)
{
    double step = nice_step(a->x_to - a->x_from, 7);
    fprintf(f, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n", a->left, a->bottom, a->right);
    for (double x = ceil(a->x_from / step - 1e-9) * step; x <= a->x_to + step * 1e-9; x += step) {
        char text[32];
        tick_text(text, x, step);
        fprintf(f, "<path class=\"axis\" d=\"M%.1f %.1fv5\"/>\n", at_x(a, x), a->bottom);
        label(f, at_x(a, x), a->bottom + 20, "m", "middle", text);
    }
    label(f, (a->left + a->right) / 2, a->bottom + 42, "m", "middle", name);
}

/* ---- lines --------------------------------------------------------------------------------------------- */

/* Rows of names under the title; returns how far down they reach. f NULL: only that. */
static double legend(FILE *f, const struct svg_chart *c)
{
    double x = 20, y = 52;
    int used = 0;
    if (c->n_series < 2)
        return 36;
    for (int i = 0; i < c->n_series; i++) {
        if (!c->series[i].name)
            continue;
        double width = 34 + CHARACTER * (double)strlen(c->series[i].name);
        if (x + width > WIDTH - 20 && x > 20) {
            x = 20;
            y += 20;
        }
        if (f) {
            fprintf(f, "<path d=\"M%.1f %.1fh18\" stroke=\"%s\" stroke-width=\"3\" stroke-linecap=\"round\"/>\n", x,
                    y - 4.5, color(used));
            label(f, x + 24, y, "t", "start", c->series[i].name);
        }
        used++;
        x += width + 10;
    }
    return y;
}

static void include(double x, double *from, double *to)
{
    if (isfinite(x)) {
        *from = fmin(*from, x);
        *to = fmax(*to, x);
    }
}

static void band(FILE *f, const struct axes *a, const struct svg_series *s, int i)
{
    bool open = false;
    fprintf(f, "<path fill=\"%s\" fill-opacity=\"0.18\" d=\"", color(i));
    int last = -1;
    for (int j = 0; j < s->n; j++)
        if (isfinite(s->low[j]) && isfinite(s->high[j])) {
            fprintf(f, "%c%.1f %.1f", open ? 'L' : 'M', at_x(a, s->x[j]), at_y(a, s->high[j]));
            open = true;
            last = j;
        }
    for (int j = last; j >= 0; j--)
        if (isfinite(s->low[j]) && isfinite(s->high[j]))
            fprintf(f, "L%.1f %.1f", at_x(a, s->x[j]), at_y(a, s->low[j]));
    fputs(open ? "Z\"/>\n" : "\"/>\n", f);
}

/* i: its colour; -1: one of the crowd */
static void line(FILE *f, const struct axes *a, const struct svg_series *s, int i)
{
    bool open = false;
    if (i < 0)
        fputs("<path class=\"axis\" fill=\"none\" stroke-width=\"1\" stroke-opacity=\"0.5\" stroke-linejoin=\"round\" "
              "d=\"",
              f);
    else
        fprintf(f, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linejoin=\"round\" d=\"", color(i));
    for (int j = 0; j < s->n; j++) {
        if (isfinite(s->y[j]))
            fprintf(f, "%c%.1f %.1f", open ? 'L' : 'M', at_x(a, s->x[j]), at_y(a, s->y[j]));
        open = isfinite(s->y[j]);
    }
    fputs("\"/>\n", f);
}

bool svg_lines(const char *path, const struct svg_chart *c)
{
    double top = legend(NULL, c) + 18;
    struct axes a = {76, WIDTH - 24, top, top + 320, INFINITY, -INFINITY, INFINITY, -INFINITY};
    for (int i = 0; i < c->n_series; i++)
        for (int j = 0; j < c->series[i].n; j++) {
            const struct svg_series *s = &c->series[i];
            include(s->x[j], &a.x_from, &a.x_to);
            include(s->y[j], &a.y_from, &a.y_to);
            include(s->low ? s->low[j] : NAN, &a.y_from, &a.y_to);
            include(s->high ? s->high[j] : NAN, &a.y_from, &a.y_to);
        }
    if (!(a.y_from <= a.y_to) || !(a.x_from < a.x_to)) /* nothing to draw: an empty frame says so */
        a.x_from = a.y_from = 0, a.x_to = a.y_to = 1;
    widen(&a.y_from, &a.y_to);
    FILE *f = begin(path, a.bottom + 60, c->title, NULL);
    if (!f)
        return false;
    legend(f, c);
    y_axis(f, &a, c->y_label);
    x_axis(f, &a, c->x_label);
    for (int i = 0; i < c->n_series; i++)
        if (!c->series[i].name)
            line(f, &a, &c->series[i], -1);
    for (int i = 0, used = 0; i < c->n_series; i++)
        if (c->series[i].name && c->series[i].low)
            band(f, &a, &c->series[i], used++);
        else
            used += c->series[i].name != NULL;
    for (int i = 0, used = 0; i < c->n_series; i++)
        if (c->series[i].name)
            line(f, &a, &c->series[i], used++);
    return end(f);
}

/* ---- points -------------------------------------------------------------------------------------------- */

static void point_row(FILE *f, const struct axes *a, const struct svg_group *g, double y, int i)
{
    char text[64];
    double x = at_x(a, g->mean);
    label(f, a->left - 12, y + 4.5, "t", "end", g->name);
    if (!isfinite(g->mean))
        return;
    for (int j = 0; j < g->n; j++)
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\" fill-opacity=\"0.45\"/>\n",
                at_x(a, g->value[j]), y, color(i));
    int n = snprintf(text, sizeof text, fabs(g->mean) < 10 ? "%.3f" : "%.4g", g->mean);
    if (isfinite(g->deviation)) {
        fprintf(f, "<path stroke=\"%s\" stroke-width=\"2\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8\"/>\n", color(i),
                at_x(a, g->mean - g->deviation), y, at_x(a, g->mean + g->deviation), at_x(a, g->mean - g->deviation),
                y - 4, at_x(a, g->mean + g->deviation), y - 4);
        snprintf(text + n, sizeof text - (size_t)n, fabs(g->mean) < 10 ? " ± %.3f" : " ± %.2g", g->deviation);
    }
    fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"%s\"/>\n", x, y, color(i));
    label(f, WIDTH - 24, y + 4.5, "m", "end", text);
}

/* A row each, so that names and figures of many stay readable. */
bool svg_points(const char *path, const char *title, const char *x_label, const struct svg_group *g, int n)
{
    enum { ROW = 22, FIGURE = 110 };
    size_t longest = 0;
    for (int i = 0; i < n; i++)
        longest = strlen(g[i].name) > longest ? strlen(g[i].name) : longest;
    struct axes a = {.left = 44 + CHARACTER * (double)longest,
                     .right = WIDTH - 24 - FIGURE,
                     .top = 48,
                     .bottom = 48 + ROW * n + 6,
                     .x_from = INFINITY,
                     .x_to = -INFINITY};
    for (int i = 0; i < n; i++) {
        include(g[i].mean - (isfinite(g[i].deviation) ? g[i].deviation : 0), &a.x_from, &a.x_to);
        include(g[i].mean + (isfinite(g[i].deviation) ? g[i].deviation : 0), &a.x_from, &a.x_to);
        for (int j = 0; j < g[i].n; j++)
            include(g[i].value[j], &a.x_from, &a.x_to);
    }
    if (!(a.x_from <= a.x_to))
        a.x_from = 0, a.x_to = 1;
    widen(&a.x_from, &a.x_to);
    FILE *f = begin(path, a.bottom + 60, title, NULL);
    if (!f)
        return false;
    for (int i = 0; i < n; i++)
        fprintf(f, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>\n", a.left, a.top + ROW * (i + 0.5), a.right);
    if (n && isfinite(g[0].mean)) /* what the others are compared with */
        fprintf(f, "<path class=\"axis\" stroke-dasharray=\"3 4\" d=\"M%.1f %.1fV%.1f\"/>\n", at_x(&a, g[0].mean),
                a.top, a.bottom);
    x_axis(f, &a, x_label);
    for (int i = 0; i < n; i++)
        point_row(f, &a, &g[i], a.top + ROW * (i + 0.5), i);
    return end(f);
}

/* ---- heat ---------------------------------------------------------------------------------------------- */

/* A scale that grows lighter evenly (the anchors of viridis), readable for the colour-blind. */
static void heat_color(char out[8], double t)
{
    static const double anchor[][3] = {{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}};
    t = fmin(1, fmax(0, t)) * 4;
    int i = t >= 4 ? 3 : (int)t;
    int c[3];
    for (int j = 0; j < 3; j++)
        c[j] = (int)lround(anchor[i][j] + (anchor[i + 1][j] - anchor[i][j]) * (t - i));
    snprintf(out, 8, "#%02x%02x%02x", c[0] & 255, c[1] & 255, c[2] & 255);
}

static void heat_scale(FILE *f, const struct svg_heat *h, double x, double y, double to)
{
    enum { STEPS = 50, LENGTH = 160 };
    for (int i = 0; i < STEPS; i++) {
        char fill[8];
        heat_color(fill, (i + 0.5) / STEPS);
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"10\" fill=\"%s\"/>\n",
                x + (double)i * LENGTH / STEPS, y, (double)LENGTH / STEPS + 0.3, fill);
    }
    char text[32];
    snprintf(text, sizeof text, "%.3g", to);
    label(f, x - 6, y + 9, "m", "end", "0");
    label(f, x + LENGTH + 6, y + 9, "m", "start", text);
    label(f, x - 20, y + 9, "m", "end", h->scale);
}

static void heat_panel(FILE *f, const struct svg_heat *h, const struct svg_panel *p, const struct axes *a, double top)
{
    double wide = (a->right - a->left) / h->cols, high = (a->bottom - a->top) / h->rows;
    double gap = h->numbered && wide > 8 && high > 8 ? 1 : 0; /* things apart, time joined */
    for (int r = 0; r < h->rows; r++)
        for (int c = 0; c < h->cols; c++) {
            double v = p->value[r * h->cols + c];
            char fill[16] = "";
            if (isfinite(v))
                heat_color(fill, v / top);
            fprintf(f, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"%s%s%s/>\n", a->left + c * wide,
                    a->top + r * high, wide - gap + (gap == 0 ? 0.3 : 0), high - gap + (gap == 0 ? 0.3 : 0),
                    *fill ? " fill=\"" : " class=\"none", *fill ? fill : "", "\"");
        }
    label(f, a->left, a->top - 7, "t", "start", p->title);
    int every = (int)ceil(14 / high);
    for (int r = 0; r < h->rows; r += every) {
        char text[16];
        snprintf(text, sizeof text, "%d", r);
        label(f, a->left - 8, a->top + (r + 0.5) * high + 4.5, "m", "end", h->row_name ? h->row_name[r] : text);
    }
}

static void heat_columns(FILE *f, const struct svg_heat *h, const struct axes *a)
{
    if (!h->numbered) {
        struct axes range = *a;
        range.x_from = h->x_from, range.x_to = h->x_to;
        x_axis(f, &range, h->x_label);
        return;
    }
    double wide = (a->right - a->left) / h->cols;
    int digits = snprintf(NULL, 0, "%d", h->cols - 1), every = (int)ceil(8 * (digits + 1) / wide);
    for (int c = 0; c < h->cols; c += every) {
        char text[16];
        snprintf(text, sizeof text, "%d", c);
        label(f, a->left + (c + 0.5) * wide, a->bottom + 17, "m", "middle", text);
    }
    label(f, (a->left + a->right) / 2, a->bottom + 38, "m", "middle", h->x_label);
}

bool svg_heat(const char *path, const struct svg_heat *h)
{
    double most = 0, left = 60;
    for (int i = 0; i < h->n_panels; i++)
        for (int j = 0; j < h->rows * h->cols; j++)
            most = fmax(most, isfinite(h->panel[i].value[j]) ? h->panel[i].value[j] : 0);
    for (int r = 0; h->row_name && r < h->rows; r++)
        left = fmax(left, 24 + CHARACTER * (double)strlen(h->row_name[r]));
    double cell = fmin(18, fmax(5, 150.0 / h->rows)), panel = cell * h->rows, y = (h->note ? 51 : 30) + 32;
    FILE *f = begin(path, y + h->n_panels * (panel + 30) + 44, h->title, h->note);
    if (!f)
        return false;
    fputs("<g shape-rendering=\"crispEdges\">\n", f); /* no seams between cells */
    heat_scale(f, h, WIDTH - 230, y - 22, most);
    y += 20;
    for (int i = 0; i < h->n_panels; i++) {
        struct axes a = {.left = left, .right = WIDTH - 24, .top = y, .bottom = y + panel};
        heat_panel(f, h, &h->panel[i], &a, most > 0 ? most : 1);
        if (i + 1 == h->n_panels)
            heat_columns(f, h, &a);
        y += panel + 30;
    }
    fputs("</g>\n", f);
    return end(f);
}
