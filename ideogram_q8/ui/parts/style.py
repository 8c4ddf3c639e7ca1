"""Theme and style sheet. Only system fonts and Gradio's own colour variables, so nothing is fetched and dark mode follows."""

from __future__ import annotations

import gradio as gr

_FONT = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """Soft, with quieter labels and outlined blocks."""
    soft = gr.themes.Soft(primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", font=_FONT, font_mono=_MONO)
    return soft.set(
        body_background_fill="#f6f7fb",
        body_text_color_subdued="*neutral_600",  # with 4.5:1 on both backgrounds, here and below
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_background_fill_selected_dark="*primary_600",
        block_border_width="1px",
        block_border_width_dark="1px",
        block_radius="12px",
        block_shadow="none",
        block_shadow_dark="none",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_weight="600",
        button_large_radius="10px",
        button_large_text_weight="600",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_border_color="*border_color_primary",
        input_shadow="none",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
    )


_DIE = (
    "url(\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E%3Cpath fill-rule='evenodd' "
    "d='M5 2h14a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H5a3 3 0 0 1-3-3V5a3 3 0 0 1 3-3zm2.5 3.7a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 "
    "0-3.6zm9 0a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6zm-4.5 4.5a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6zm-4.5 4.5a1.8 1.8 0 "
    "1 0 0 3.6 1.8 1.8 0 0 0 0-3.6zm9 0a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z'/%3E%3C/svg%3E\")"
)

CSS = (
    """
html:has(body.dark) { background: var(--neutral-950, #0b0f19); }
.gradio-container button[role=tab].selected { color: var(--primary-700); }
.dark .gradio-container button[role=tab].selected, .dark button[role=tab].selected { color: var(--primary-300); }
.gradio-container { max-width: min(1400px, 100vw) !important; margin: 0 auto !important; }
.q8-title { display: flex; align-items: baseline; flex-wrap: wrap; gap: 4px 16px; padding: 4px 2px; }
.q8-title h1 { font-size: 24px; font-weight: 700; letter-spacing: -0.02em; margin: 0; }
.q8-title p { margin: 0; color: var(--body-text-color-subdued); }
.q8-title summary { cursor: pointer; list-style: none; }
.q8-title details { margin-left: auto; }
.q8-title details p { max-width: 640px; margin-top: 8px; }
.q8-title code { overflow-wrap: anywhere; }
.q8-title .q8-demo { color: var(--body-text-color); border-color: #b45309; font-weight: 650; }
.q8-title .q8-chip { margin-left: auto; padding: 3px 12px; border-radius: 99px; font-size: 13px;
  color: var(--body-text-color-subdued); border: 1px solid var(--border-color-primary); }

/* Radio buttons as cards: name, format, size on three lines. */
.q8-cards .wrap { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 10px; }
.q8-cards label { align-items: flex-start !important; gap: 9px !important; margin: 0 !important;
  padding: 11px 13px !important; border-radius: 12px !important;
  border: 1px solid var(--border-color-primary) !important; background: var(--background-fill-primary) !important;
  color: var(--body-text-color) !important; box-shadow: none !important; transition: border-color .12s, background .12s; }
.q8-cards label:hover { border-color: var(--primary-400) !important; }
.q8-cards label.selected { border-color: var(--primary-500) !important; box-shadow: inset 0 0 0 1px var(--primary-500) !important;
  background: color-mix(in srgb, var(--primary-500) 9%, var(--background-fill-primary)) !important; }
.q8-cards label input { margin-top: 3px; accent-color: var(--primary-500); }
.q8-cards label span { display: block; white-space: pre-line; overflow-wrap: anywhere; min-width: 0;
  font-size: 12.5px; line-height: 1.5; color: inherit;
  font-weight: 400; margin: 0 !important; }
.q8-cards label span::first-line { font-size: 15px; font-weight: 650; }

/* The form. */
#q8-caption textarea { font-family: var(--font-mono); font-size: 12.5px; line-height: 1.55; }
.gradio-container input[type=range] { min-width: 0; } /* else its largest value stands outside of a narrow card */
#q8-preset .wrap { display: grid !important; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
#q8-preset label { justify-content: center; padding: 8px 6px !important; border-radius: 10px !important; box-shadow: none !important;
  border: 1px solid var(--border-color-primary); }
#q8-preset label { position: relative; }
#q8-preset label input { position: absolute; opacity: 0; }
#q8-preset label:has(:focus-visible) { outline: 2px solid var(--primary-500); outline-offset: 2px; }
#q8-preset label span { margin: 0 !important; }
#q8-examples .label { color: var(--body-text-color); font-weight: 600; }
#q8-examples .label svg { display: none; }
#q8-examples .gallery-item, #q8-examples button { border-radius: 99px !important; font-size: 13px; padding: 3px 12px !important; }
#q8-examples .gallery { gap: 6px; }
/* Buttons as high as what stands beside them. */
.q8-actions > div { flex-grow: 1; align-items: stretch; }
.q8-actions button { height: auto; min-height: 46px; }

.q8-seed { align-items: stretch; }
#q8-roll { height: auto; font-size: 15px; box-shadow: none; border: 1px solid var(--border-color-primary); border-radius: 12px; }
#q8-roll::before { content: ""; width: 16px; height: 16px; margin-right: 7px; background: currentColor;
  mask: DIE center / contain no-repeat; }

/* What went wrong, over everything. */
.q8-alerts { position: fixed; z-index: 1100; top: 16px; right: 16px; left: 16px; pointer-events: none; }
.q8-alerts > div { display: grid; grid-template-columns: 1fr auto; gap: 4px 12px; max-width: 440px; margin-left: auto; padding: 12px 16px;
  pointer-events: auto; overflow-wrap: anywhere; font-size: 14px; border: 1px solid #ef4444; border-left-width: 5px; border-radius: 12px;
  color: var(--body-text-color); background: var(--background-fill-primary); box-shadow: 0 6px 24px rgb(0 0 0 / 20%); }
.q8-alerts span { grid-column: 1 / -1; }
.q8-alerts button { font-size: 18px; line-height: 1; }

/* Progress, results, tables. */
.q8-panel { border: 1px solid var(--border-color-primary); border-radius: 12px; padding: 14px 16px;
  background: var(--block-background-fill); color: var(--body-text-color); }
.q8-panel .q8-head { display: flex; justify-content: space-between; gap: 12px; font-weight: 600; }
.q8-panel .q8-head span { font-variant-numeric: tabular-nums; font-weight: 500; color: var(--body-text-color-subdued); }
.q8-panel .q8-note { color: var(--body-text-color-subdued); font-size: 13.5px; margin-top: 6px; min-height: 20px;
  font-variant-numeric: tabular-nums; display: flex; justify-content: space-between; gap: 12px; }
.q8-bar { height: 7px; border-radius: 99px; overflow: hidden; margin-top: 10px; background: var(--border-color-primary); }
.q8-bar i { display: block; height: 100%; border-radius: 99px; background: var(--primary-500); transition: width .15s linear; }
.q8-panel[data-state=cancelled] .q8-bar i { background: var(--neutral-400); }
.q8-panel[data-state=failed] { border-color: #ef4444; }
.q8-tiles { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px; margin-top: 12px; }
.q8-tiles dt { font-size: 12.5px; color: var(--body-text-color-subdued); }
.q8-tiles dd { margin: 2px 0 0; font-size: 19px; font-weight: 650; letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
.q8-flat .html-container { padding: 0 !important; }
.q8-table tr { border: 0 !important; }
.q8-flat { padding: 0 !important; border: 0 !important; background: none !important; }
.q8-table { width: 100%; margin: 0 !important; table-layout: fixed; border-collapse: collapse; font-variant-numeric: tabular-nums;
  border: 0 !important; }
.q8-table th, .q8-table td { padding: 8px 10px !important; text-align: right !important; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important; }
.q8-table th:first-child { text-align: left !important; font-weight: 500; color: var(--body-text-color-subdued); white-space: nowrap; }
.q8-table thead th { font-weight: 650; color: var(--body-text-color); }
.q8-table tbody tr:last-child th, .q8-table tbody tr:last-child td { border-bottom: 0 !important; }
.q8-table td[colspan] { font-weight: 650; background: color-mix(in srgb, var(--primary-500) 7%, transparent); }
.q8-small { font-size: 12.5px; line-height: 1.5; color: var(--body-text-color-subdued); margin: 10px 0 0; }
.q8-scroll { overflow-x: auto; }
.q8-panel h2 { font-size: inherit; margin: 0; }
.q8-panel + .q8-panel { margin-top: 14px; }
.q8-facts { table-layout: auto; }
.q8-facts td { text-align: left !important; overflow-wrap: anywhere; }
.q8-facts th { vertical-align: top; padding-left: 0 !important; }
.q8-facts .q8-list { font-size: 12.5px; color: var(--body-text-color-subdued); margin-top: 4px; }
.q8-kernels { margin: 8px 0 0; font-size: 14px; }
.q8-kernels dt { color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
.q8-kernels dd { margin: 2px 0 14px; font-weight: 600; }
.q8-kernels .q8-list { font-weight: 400; color: var(--body-text-color-subdued); }
.q8-one .wrap { grid-template-columns: 1fr !important; }
.q8-one label span { overflow-wrap: anywhere; }
.q8-gauge { display: flex; justify-content: space-between; gap: 12px; font-size: 13.5px; margin-top: 12px;
  font-variant-numeric: tabular-nums; }
.q8-gauge + .q8-bar { margin-top: 5px; }
.q8-list { margin: 8px 0 0; padding-left: 18px; font-size: 13px; line-height: 1.5; overflow-wrap: anywhere; }
.q8-verdict { font-size: 15px; margin-top: 12px; }
.q8-label { font-weight: 600; font-size: 14px; color: var(--body-text-color); }
.q8-caption-text { font-family: var(--font-mono); font-size: 12px; line-height: 1.5; margin: 12px 0 0; overflow-wrap: anywhere;
  max-height: 220px; overflow-y: auto; color: var(--body-text-color-subdued); }

/* Pictures that are shown larger than they are, which page.js finds: pixel by pixel, nothing smoothed over. */
#q8-restore [data-testid=upload-text] { color: var(--body-text-color); }
img.q8-enlarged { image-rendering: pixelated; }
#q8-picture img { width: 100% !important; height: 100% !important; object-fit: contain; }
footer { display: none !important; }

/* Telephones: two cards a row, and a picture as high as it is wide. */
@media (max-width: 640px) {
  .gradio-container main, .gradio-container .wrap { padding: 12px !important; }
  .gradio-container .column, .gradio-container .tabs, .gradio-container .tab-wrapper { min-width: 0 !important; }
  .q8-cards .wrap { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .q8-cards label { padding: 9px 10px !important; }
  .q8-title summary { cursor: pointer; list-style: none; }
.q8-title details { margin-left: auto; }
.q8-title details p { max-width: 640px; margin-top: 8px; }
.q8-title code { overflow-wrap: anywhere; }
.q8-title .q8-demo { color: var(--body-text-color); border-color: #b45309; font-weight: 650; }
.q8-title .q8-chip { margin-left: 0; }
  #q8-preset label { padding: 8px 4px !important; font-size: 13px; white-space: nowrap; }
  .q8-table:not(.q8-facts) { table-layout: auto; }
  .q8-table:not(.q8-facts) :is(th, td) { white-space: nowrap; padding: 8px 7px !important; }
  #q8-picture { height: auto !important; aspect-ratio: 1; }
}
"""
).replace("DIE", _DIE)
