"""The five domains of the embedded data set, fixed by what the real data sets are like, before any training.

G and S are drawn by a computer, as GTA5 and SYNTHIA are; I, M and C come from a camera, as IDD, Mapillary Vistas
and Cityscapes do. Nothing here has been tuned by training on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dglab.data.streets.content import Content
from dglab.data.streets.style import RGB, Style

Palette = Mapping[str, tuple[RGB, ...]]


@dataclass(frozen=True)
class StreetDomain:
    """A domain: streets with a common content and a common style.

    Attributes:
        letter: "G", "S", "I", "M" or "C".
        name: to print, as "streets G".
        likeness: the real data set it stands in for.
        style: how its images look.
        content: what its scenes contain.
    """

    letter: str
    name: str
    likeness: str
    style: Style
    content: Content


_COMMON: Palette = {
    "asphalt": ((98, 98, 101), (86, 87, 92), (110, 108, 106)),
    "paving": ((150, 146, 140), (136, 134, 132), (164, 155, 146)),
    "terrain": ((112, 124, 66), (98, 114, 58), (134, 122, 82)),
    "facade": (
        (176, 160, 138), (158, 152, 146), (132, 128, 126), (170, 128, 106), (196, 186, 168), (148, 104, 84),
        (120, 118, 122), (186, 170, 120), (110, 104, 98),
    ),
    "roof": ((134, 78, 60), (92, 84, 80), (74, 74, 80), (118, 92, 74)),
    "wall": ((142, 138, 132), (126, 112, 98), (152, 118, 98), (112, 112, 112)),
    "fence": ((118, 92, 66), (74, 82, 76), (168, 166, 162), (92, 92, 96)),
    "bark": ((92, 74, 58), (78, 68, 60)),
    "leaf": ((74, 98, 46), (60, 86, 42), (88, 106, 52), (64, 92, 60)),
    "metal": ((130, 132, 134), (100, 104, 106), (150, 150, 148)),
    "sign": ((236, 236, 232), (40, 84, 170), (240, 214, 80), (36, 120, 76), (232, 232, 228)),
    "sign rim": ((196, 36, 40), (200, 44, 44), (236, 236, 232), (40, 84, 170)),
    "housing": ((36, 38, 40), (48, 50, 50)),
    "lamp red": ((220, 40, 34),),
    "lamp amber": ((240, 176, 50),),
    "lamp green": ((56, 206, 120),),
    "car": (
        (196, 198, 200), (226, 226, 224), (46, 48, 52), (84, 88, 94), (150, 34, 34), (44, 68, 122), (140, 144, 148),
        (30, 30, 34), (108, 30, 40), (60, 92, 84), (190, 164, 90),
    ),
    "truck": ((222, 220, 214), (196, 188, 170), (70, 96, 140), (170, 60, 44), (120, 128, 110), (210, 170, 60)),
    "bus": ((206, 60, 44), (226, 222, 212), (64, 96, 158), (222, 176, 60), (90, 140, 96)),
    "tram": ((200, 56, 48), (222, 214, 190), (86, 130, 92), (232, 196, 70), (94, 108, 150)),
    "glass": ((44, 52, 60), (38, 44, 50), (56, 66, 74)),
    "tyre": ((30, 30, 32),),
    "headlight": ((246, 242, 224),),
    "taillight": ((190, 30, 28), (160, 26, 26)),
    "skin": ((206, 160, 132), (168, 120, 92), (120, 84, 64), (224, 180, 152)),
    "hair": ((48, 36, 30), (30, 26, 26), (110, 82, 54), (150, 140, 132)),
    "cloth": (
        (54, 58, 70), (150, 44, 46), (208, 204, 196), (64, 92, 132), (92, 96, 80), (190, 150, 70), (36, 36, 40),
        (130, 90, 110), (86, 130, 120),
    ),
    "trousers": ((44, 48, 62), (70, 72, 78), (36, 34, 36), (110, 98, 80), (60, 76, 104)),
    "helmet": ((220, 220, 216), (40, 40, 44), (170, 40, 40), (70, 90, 130)),
    "cycle": ((50, 52, 56), (150, 40, 40), (60, 80, 120), (180, 180, 178), (40, 90, 80)),
    "plate": ((226, 224, 210),),
    "bonnet": ((40, 42, 46),),
    "marking": ((226, 226, 220),),
    "kerb": ((172, 168, 160), (158, 156, 152)),
    "window": ((62, 74, 86), (76, 86, 94), (52, 58, 66)),
}  # fmt: skip

_GAME = Style(
    palette={
        **_COMMON,
        "asphalt": ((104, 102, 100), (92, 91, 92)),
        "terrain": ((150, 134, 84), (122, 128, 62), (160, 140, 100)),
        "facade": ((216, 198, 166), (198, 174, 142), (226, 218, 200), (176, 122, 98), (150, 150, 156), (214, 180, 110),
                   (168, 150, 132)),
        "leaf": ((72, 106, 40), (92, 112, 44), (58, 92, 40)),
        "paving": ((184, 174, 158), (170, 164, 154)),
        "marking": ((240, 210, 96), (236, 234, 226)),
    },
    spread=7.0,
    sky=(((214, 224, 232), (84, 148, 222)), ((238, 214, 178), (104, 148, 206))),
    clouds=(0.1, 0.45), exposure=(1.0, 1.12), sun=(0.6, 0.85), elevation=(22, 60), texture=(0.35, 0.55),
    wear=(0.1, 0.4), haze=(0.0008, 0.0022), haze_tint=(216, 220, 220),
    cast=((1.03, 1.09), (1.0, 1.02), (0.90, 0.97)), saturation=(1.1, 1.35), contrast=(1.12, 1.25), gamma=(1.0, 1.12),
    blur=(0.0, 0.0), grain=(0.0, 1.0), vignette=(0.1, 0.3), outline=(0.3, 0.6),
)  # fmt: skip

_SYNTHETIC = Style(
    palette={
        **_COMMON,
        "asphalt": ((96, 100, 112), (82, 86, 98)),
        "terrain": ((86, 128, 72), (100, 138, 76), (120, 124, 92)),
        "facade": ((150, 160, 178), (182, 186, 192), (126, 134, 150), (164, 132, 124), (196, 200, 196),
                   (108, 120, 140)),
        "leaf": ((46, 104, 58), (62, 118, 62), (74, 110, 80)),
        "paving": ((160, 164, 172), (142, 148, 160)),
    },
    spread=5.0,
    sky=(((196, 212, 232), (112, 150, 206)), ((206, 212, 224), (150, 168, 196)), ((170, 186, 212), (84, 112, 168))),
    clouds=(0.2, 0.7), exposure=(0.88, 1.05), sun=(0.25, 0.6), elevation=(30, 70), texture=(0.1, 0.28),
    wear=(0.0, 0.1), haze=(0.0005, 0.002), haze_tint=(196, 206, 222),
    cast=((0.92, 0.97), (0.98, 1.01), (1.04, 1.10)), saturation=(1.1, 1.4), contrast=(1.0, 1.12), gamma=(0.95, 1.05),
    blur=(0.0, 0.0), grain=(0.0, 0.5), vignette=(0.0, 0.0), outline=(0.4, 0.9),
)  # fmt: skip

_DUSTY = Style(
    palette={
        **_COMMON,
        "asphalt": ((112, 109, 104), (102, 99, 96), (126, 120, 111)),
        "paving": ((164, 148, 126), (148, 134, 116)),
        "terrain": ((164, 140, 104), (146, 122, 88), (122, 118, 76)),
        "facade": ((196, 168, 132), (170, 146, 120), (214, 196, 160), (150, 120, 100), (132, 150, 146), (190, 132, 104),
                   (206, 176, 172), (122, 112, 104)),
        "leaf": ((84, 94, 52), (96, 102, 62), (70, 84, 46)),
        "bus": ((196, 60, 50), (70, 120, 90), (214, 180, 90), (60, 90, 150)),
        "truck": ((210, 140, 60), (190, 70, 50), (206, 196, 170), (80, 110, 130)),
    },
    spread=13.0,
    sky=(((222, 214, 200), (176, 184, 190)), ((230, 222, 206), (196, 196, 192)), ((214, 206, 188), (150, 170, 190))),
    clouds=(0.1, 0.6), exposure=(1.05, 1.22), sun=(0.25, 0.65), elevation=(25, 65), texture=(0.85, 1.25),
    wear=(0.4, 0.9), haze=(0.006, 0.013), haze_tint=(222, 210, 190),
    cast=((1.02, 1.10), (0.98, 1.01), (0.86, 0.95)), saturation=(0.8, 1.05), contrast=(0.9, 1.08), gamma=(0.9, 1.1),
    blur=(0.3, 0.6), grain=(3.0, 6.0), vignette=(0.05, 0.2), outline=(0.0, 0.0),
)  # fmt: skip

_WORLDWIDE = Style(
    palette={
        **_COMMON,
        "terrain": (*_COMMON["terrain"], (150, 134, 96), (90, 122, 60)),
        "facade": (*_COMMON["facade"], (214, 196, 160), (150, 160, 178), (190, 120, 96), (206, 206, 204)),
        "leaf": (*_COMMON["leaf"], (104, 106, 54), (120, 100, 48), (50, 78, 46)),
        "marking": ((230, 230, 224), (232, 206, 100)),
    },
    spread=12.0,
    sky=(
        ((206, 220, 234), (96, 146, 208)), ((224, 226, 228), (190, 196, 202)), ((236, 206, 170), (120, 140, 180)),
        ((190, 196, 200), (150, 158, 166)), ((216, 226, 236), (70, 124, 196)),
    ),
    clouds=(0.0, 1.0), exposure=(0.82, 1.25), sun=(0.0, 0.8), elevation=(12, 65), texture=(0.7, 1.4),
    wear=(0.0, 0.8), haze=(0.0005, 0.009), haze_tint=(212, 216, 220),
    cast=((0.92, 1.08), (0.97, 1.03), (0.90, 1.08)), saturation=(0.65, 1.25), contrast=(0.85, 1.25),
    gamma=(0.85, 1.25), blur=(0.0, 0.8), grain=(1.0, 7.0), vignette=(0.0, 0.6), outline=(0.0, 0.3),
)  # fmt: skip

_GREYISH = Style(
    palette={
        **_COMMON,
        "asphalt": ((92, 96, 98), (82, 86, 88), (104, 106, 106)),
        "facade": ((146, 142, 134), (168, 162, 150), (124, 122, 120), (150, 126, 110), (184, 178, 164),
                   (104, 104, 104)),
        "leaf": ((64, 84, 54), (54, 74, 48), (74, 90, 58)),
        "terrain": ((96, 112, 70), (104, 106, 80)),
    },
    spread=8.0,
    sky=(((210, 216, 216), (186, 196, 202)), ((222, 226, 224), (200, 208, 212)), ((200, 210, 216), (156, 178, 196))),
    clouds=(0.4, 1.0), exposure=(0.98, 1.12), sun=(0.0, 0.35), elevation=(20, 50), texture=(0.7, 1.0),
    wear=(0.1, 0.45), haze=(0.001, 0.0035), haze_tint=(200, 208, 208),
    cast=((0.93, 0.97), (0.99, 1.03), (0.97, 1.02)), saturation=(0.5, 0.75), contrast=(0.95, 1.1), gamma=(0.95, 1.1),
    blur=(0.45, 0.7), grain=(1.5, 3.5), vignette=(0.05, 0.2), outline=(0.0, 0.0),
)  # fmt: skip

STREETS: dict[str, StreetDomain] = {
    "G": StreetDomain(
        "G", "streets G", "GTA5", _GAME,
        Content(
            camera_height=(1.4, 2.2), horizon=(0.42, 0.52), heading=(-0.08, 0.08), lanes=(2, 4),
            lane_width=(3.2, 3.8), curvature=(0.0, 0.005), sidewalk_share=0.9, sidewalk=(2.5, 4.5), grass_share=0.3,
            yard_share=0.35, junction_share=0.45, markings=("double", "double", "dashed"), built=0.72, storeys=(1, 9),
            pitched_roofs=0.15, trees=0.35, tree_kinds=("palm", "palm", "broad"), tree_height=(5.0, 9.0), walls=0.24,
            fences=0.2, parked=0.3, cars=4.0, trucks=0.7, buses=0.45, trams=0.35, motorcycles=0.6, bicycles=0.4,
            persons=4.0, lights=1.6, signs=1.8,
        ),
    ),
    "S": StreetDomain(
        "S", "streets S", "SYNTHIA", _SYNTHETIC,
        Content(
            camera_height=(1.5, 6.0), horizon=(0.28, 0.52), heading=(-0.18, 0.18), focal=(0.5, 0.68), lanes=(2, 6),
            curvature=(0.0, 0.004), sidewalk_share=1.0, sidewalk=(3.0, 6.0), grass_share=0.35, yard_share=0.25,
            junction_share=0.55, markings=("dashed", "solid"), built=0.85, storeys=(3, 8), pitched_roofs=0.1,
            trees=0.5, tree_kinds=("broad", "conifer"), walls=0.2, fences=0.22, parked=0.25, cars=4.5, trucks=0.6,
            buses=0.6, trams=0.4, motorcycles=0.8, bicycles=0.9, persons=8.0, jaywalkers=0.15, lights=1.8, signs=2.0,
        ),
    ),
    "I": StreetDomain(
        "I", "streets I", "IDD", _DUSTY,
        Content(
            camera_height=(1.3, 1.9), horizon=(0.40, 0.50), heading=(-0.08, 0.08), lanes=(1, 3),
            lane_width=(2.9, 3.6), curvature=(0.0, 0.006), edge_roughness=(0.25, 0.8), sidewalk_share=0.35,
            sidewalk=(1.2, 2.5), grass_share=0.6, yard_share=0.4, junction_share=0.3,
            markings=("none", "none", "dashed"), built=0.62, storeys=(1, 4), pitched_roofs=0.1, trees=0.55,
            tree_kinds=("broad", "broad", "palm"), tree_height=(3.5, 8.0), hedges=0.12, walls=0.34, fences=0.18,
            lamp_spacing=(22.0, 45.0), poles=4.0, lights=0.8, signs=1.3, parked=0.2, cars=2.6, trucks=1.0, buses=0.6,
            trams=0.3, motorcycles=3.0, bicycles=0.7, parked_cycles=1.5, ridden=0.95, persons=7.0, jaywalkers=0.4,
            drive_on_left=True,
        ),
    ),
    "M": StreetDomain(
        "M", "streets M", "Mapillary Vistas", _WORLDWIDE,
        Content(
            camera_height=(1.1, 3.2), horizon=(0.34, 0.58), heading=(-0.2, 0.2), focal=(0.48, 0.8), lanes=(1, 6),
            lane_width=(2.8, 3.9), curvature=(0.0, 0.006), edge_roughness=(0.0, 0.35), sidewalk_share=0.75,
            sidewalk=(1.2, 5.0), grass_share=0.45, yard_share=0.4, junction_share=0.4,
            markings=("dashed", "double", "solid", "none"), built=0.66, storeys=(1, 9), pitched_roofs=0.4, trees=0.6,
            tree_kinds=("broad", "broad", "conifer", "palm"), tree_height=(3.0, 10.0), hedges=0.18, walls=0.24,
            fences=0.24, poles=3.0, lights=1.2, signs=2.0, cars=3.5, trucks=0.7, buses=0.55, trams=0.35,
            motorcycles=1.0, bicycles=0.8, persons=4.5,
        ),
    ),
    "C": StreetDomain(
        "C", "streets C", "Cityscapes", _GREYISH,
        Content(
            camera_height=(1.2, 1.35), horizon=(0.43, 0.47), heading=(-0.04, 0.04), focal=(0.58, 0.62), lanes=(2, 4),
            lane_width=(3.3, 3.9), curvature=(0.0, 0.003), sidewalk_share=1.0, sidewalk=(2.5, 4.5), grass_share=0.3,
            yard_share=0.25, junction_share=0.4, markings=("dashed", "dashed", "none"), built=0.82, storeys=(3, 6),
            pitched_roofs=0.55, trees=0.75, tree_height=(4.5, 9.0), hedges=0.2, walls=0.2, fences=0.22, parked=0.5,
            cars=3.0, trucks=0.5, buses=0.5, trams=0.4, motorcycles=0.6, bicycles=1.2, parked_cycles=1.2, persons=5.0,
            lights=1.4, signs=2.2, bonnet=(0.07, 0.10),
        ),
    ),
}  # fmt: skip
