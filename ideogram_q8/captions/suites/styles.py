"""Styles and palettes that the captions' rows name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """A way of making pictures. Exactly one of `photo` and `art_style` is given, as in Ideogram's captions."""

    aesthetics: str
    medium: str
    photo: str | None = None
    art_style: str | None = None

    def value(self, lighting: str) -> dict[str, object]:
        """The style_description of Ideogram's JSON, without palette, keys in its order."""
        if self.photo is not None:
            return {"aesthetics": self.aesthetics, "lighting": lighting, "photo": self.photo, "medium": self.medium}
        return {"aesthetics": self.aesthetics, "lighting": lighting, "medium": self.medium, "art_style": self.art_style}


def _photo(aesthetics: str, photo: str) -> Style:
    return Style(aesthetics, "photograph", photo=photo)


def _drawn(aesthetics: str, medium: str, art_style: str) -> Style:
    return Style(aesthetics, medium, art_style=art_style)


STYLES = {
    "documentary": _photo("unposed, observant, true to life", "35mm lens at f/4, eye level, natural grain"),
    "street": _photo("candid, layered, lively", "28mm lens at hip height, deep focus"),
    "portrait": _photo("intimate, quiet, attentive", "85mm lens at f/1.8, soft background"),
    "studio": _photo("clean, precise, commercial", "100mm lens, seamless backdrop, everything sharp"),
    "tabletop": _photo("warm, tactile, appetising", "50mm lens at a forty-five degree angle, shallow focus"),
    "flatlay": _photo("orderly, graphic, calm", "directly overhead, 35mm lens, deep focus"),
    "macro": _photo("minute, luminous, exact", "100mm macro lens at f/5.6, close focus"),
    "wildlife": _photo("patient, wild, immediate", "500mm telephoto at f/5.6, eye level with the animal"),
    "vista": _photo("vast, still, clear", "24mm lens at f/11 on a tripod, sharp from foreground to horizon"),
    "long-exposure": _photo("dreamlike, silky, quiet", "thirty-second exposure on a tripod with a dark filter"),
    "architectural": _photo("geometric, sober, exact", "tilt-shift lens, verticals parallel"),
    "interior": _photo("lived-in, airy, composed", "24mm lens at waist height, natural perspective"),
    "aerial": _photo("abstract, patterned, distant", "drone view straight down, deep focus"),
    "noir": _photo("tense, smoky, high in contrast", "black-and-white 35mm film, hard grain"),
    "instant": _photo("nostalgic, faded, informal", "instant film with soft focus and a slight light leak"),
    "night": _photo("electric, wet, saturated", "35mm lens at f/1.4, high sensitivity, glowing reflections"),
    "sports": _photo("fast, tense, energetic", "200mm lens at 1/2000 s, motion frozen"),
    "editorial": _photo("polished, expressive, magazine-ready", "medium format, 80mm lens, controlled depth"),
    "flat-vector": _drawn("bold, minimal, friendly", "vector illustration", "flat geometric shapes without outlines"),
    "swiss": _drawn(
        "rational, spacious, confident", "graphic design poster", "international typographic style on a strict grid"
    ),
    "art-deco": _drawn("glamorous, symmetrical, opulent", "poster", "art deco with stepped forms and thin gold lines"),
    "letterpress": _drawn("tactile, honest, traditional", "letterpress print", "wood type with uneven ink and visible bite"),
    "screenprint": _drawn("loud, layered, handmade", "screen print", "three colour separations, slightly out of register"),
    "risograph": _drawn("grainy, playful, warm", "risograph print", "two overprinted inks with coarse halftone"),
    "travel": _drawn("optimistic, sun-filled, vintage", "lithograph poster", "mid-century travel poster in simplified shapes"),
    "bauhaus": _drawn(
        "constructed, playful, primary", "graphic design poster", "circles, bars and diagonals in the Bauhaus manner"
    ),
    "logo": _drawn("distinctive, balanced, timeless", "logo design", "a simple mark with custom lettering on a plain ground"),
    "packaging": _drawn("crisp, shelf-ready, refined", "3D packaging mock-up", "photorealistic render with soft reflections"),
    "watercolour": _drawn("delicate, airy, spontaneous", "watercolour on cold-pressed paper", "loose washes over pencil lines"),
    "gouache": _drawn("matte, storybook, cosy", "gouache painting", "flat opaque shapes with dry-brush texture"),
    "oil": _drawn("rich, weighty, painterly", "oil on canvas", "broad impasto strokes, restrained realism"),
    "ink": _drawn("spare, fluid, sure-handed", "ink drawing", "brush and nib in black with grey washes"),
    "charcoal": _drawn(
        "smudged, moody, searching", "charcoal drawing", "soft tonal drawing on toned paper, highlights lifted out"
    ),
    "woodcut": _drawn("stark, rhythmic, rugged", "woodcut print", "carved parallel lines, black on cream paper"),
    "engraving": _drawn("learned, intricate, antique", "engraved plate", "fine cross-hatching as in a naturalist's atlas"),
    "pixel": _drawn("nostalgic, crisp, playful", "pixel art", "sixteen-bit sprites with a limited palette, no smoothing"),
    "isometric": _drawn("tidy, toy-like, explanatory", "3D render", "isometric view in soft matte clay"),
    "clay": _drawn(
        "charming, tactile, handmade", "stop-motion still", "modelling clay with visible fingerprints, miniature set"
    ),
    "paper-cut": _drawn("layered, delicate, dimensional", "cut paper", "stacked coloured sheets casting real shadows"),
    "collage": _drawn("witty, surreal, tactile", "paper collage", "torn prints and painted paper with rough edges"),
    "chalk": _drawn("casual, inviting, hand-drawn", "chalk on blackboard", "hand lettering with flourishes and dusty smudges"),
    "blueprint": _drawn("technical, exact, cool", "technical drawing", "white lines on blue with dimension marks"),
    "infographic": _drawn("clear, informative, ordered", "digital infographic", "clean vector shapes with direct labels"),
    "dashboard": _drawn("dense, calm, functional", "user interface design", "rounded cards in a consistent grid"),
    "comic": _drawn("dynamic, punchy, expressive", "comic panel", "bold ink outlines, flat colour and halftone dots"),
    "cel": _drawn("wistful, luminous, cinematic", "animation still", "painted background with clean hand-drawn figures"),
    "stained-glass": _drawn("radiant, solemn, jewelled", "stained glass window", "coloured panes in dark lead lines"),
    "mosaic": _drawn("ancient, shimmering, patient", "mosaic", "small stone and glass tiles with visible grout"),
    "embroidery": _drawn("homely, tactile, careful", "embroidery on linen", "satin and chain stitch in cotton thread"),
    "low-poly": _drawn("faceted, clean, playful", "3D render", "low-polygon models with flat shading"),
}

PALETTES = {
    "harbour": ("#0F2A3D", "#2F6B8A", "#A9C6D0", "#F2EFE6", "#D9482B"),
    "terracotta": ("#7A2E1D", "#C65D3B", "#E8A87C", "#F6E7D4", "#3B4A3F"),
    "forest": ("#12261C", "#2F5D3A", "#7FA35C", "#D8E2B8", "#8A5A2B"),
    "ember": ("#1A0F0A", "#7A1F12", "#E0561F", "#F9B233", "#FFF1D0"),
    "dusk": ("#1B1B3A", "#53336B", "#B65B7C", "#F0A57E", "#FBE3C0"),
    "linen": ("#FAF6EE", "#E6DCCB", "#BFAE94", "#6E6255", "#2E2A26"),
    "candy": ("#FF5D8F", "#FFB3C6", "#FFE56B", "#7BDFF2", "#FFFFFF"),
    "mono": ("#0B0B0C", "#4A4A4D", "#9C9CA0", "#EDEDEB"),
    "citrus": ("#F6C90E", "#F28C28", "#8CB369", "#FFF8E1", "#2D3A1F"),
    "glacier": ("#0B3954", "#4C9FBF", "#BFD7EA", "#F4FAFC", "#8D99AE"),
    "brass": ("#1C1A17", "#5A4A2F", "#B8923A", "#E9D8A6", "#F8F4E6"),
    "plum": ("#2D132C", "#801336", "#C72C41", "#EE4540", "#F7D9C4"),
    "sand": ("#F4E4C1", "#E3C18F", "#C58F5C", "#7C5B3A", "#5E8C8A"),
    "cobalt": ("#0A1F6B", "#1E56D9", "#7FB2FF", "#FFFFFF", "#FFD23F"),
    "autumn": ("#4A2511", "#9C3D0E", "#D9822B", "#EFC365", "#5B6B35"),
    "blossom": ("#FDE7EC", "#F4B6C2", "#D96C86", "#6B8F71", "#3A3238"),
    "slate": ("#1F2933", "#52606D", "#9AA5B1", "#E4E7EB", "#2BB0A6"),
    "meadow": ("#3E7C3A", "#A4C95A", "#FCE77D", "#F7FBEF", "#4D8FCC"),
}
