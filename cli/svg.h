/* Charts as SVG files: lines with bands, points with error bars, heat maps. Colours follow the reader's light or dark
 * setting. All return false when the file could not be written. */
#ifndef CADRE_CLI_SVG_H
#define CADRE_CLI_SVG_H

#include <stdbool.h>

struct svg_series {
    const char *name; /* NULL: one of a crowd, thin and grey, without a legend */
    const double *x, *y;
    const double *low, *high; /* a band around y, or NULL */
    int n;
};

/* Points whose y is not finite interrupt a line. */
struct svg_chart {
    const char *title, *x_label, *y_label;
    const struct svg_series *series;
    int n_series;
};
bool svg_lines(const char *path, const struct svg_chart *c);

struct svg_group { /* a row; a dotted line goes through the first one's mean */
    const char *name;
    double mean, deviation; /* the bar's half; NaN for none */
    const double *value;    /* single runs */
    int n;
};
bool svg_points(const char *path, const char *title, const char *x_label, const struct svg_group *g, int n);

struct svg_panel {
    const char *title;
    const double *value; /* [rows, cols]; NaN: left out */
};
struct svg_heat {
    const char *title, *note, *x_label, *scale; /* note: a line under the title, or NULL; scale: what colours mean */
    int n_panels, rows, cols;
    const struct svg_panel *panel;
    const char *const *row_name; /* NULL: numbered */
    double x_from, x_to;         /* what the first column's left and the last one's right edge stand for */
    bool numbered;               /* columns are things with numbers, not a range */
};
bool svg_heat(const char *path, const struct svg_heat *h);

#endif
