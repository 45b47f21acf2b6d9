//! The words of short authentication strings, and of passphrases that are made up for a person: short,
//! common, hard to mistake for one another, no two alike in their first four letters.

/// Chosen for this program; the order is part of the protocol.
#[rustfmt::skip]
pub const WORDS: [&str; 256] = [
    "acorn", "actor", "album", "alley", "amber", "anchor", "angel", "ankle", "apple", "apron",
    "arrow", "atlas", "attic", "autumn", "badge", "bagel", "baker", "bamboo", "banana", "barrel",
    "basket", "beach", "beaver", "bench", "berry", "bicycle", "bishop", "blanket", "blossom",
    "bottle", "branch", "bread", "bridge", "broom", "bubble", "bucket", "butter", "cabin", "cactus",
    "camel", "candle", "canoe", "carpet", "castle", "cello", "cherry", "chimney", "cider", "circle",
    "clover", "cobra", "coconut", "comet", "copper", "coral", "cotton", "cradle", "crayon",
    "cricket", "crown", "curtain", "daisy", "dancer", "desert", "diamond", "dinner", "dolphin",
    "donkey", "dragon", "drum", "eagle", "earth", "elbow", "ember", "engine", "falcon", "farmer",
    "feather", "fiddle", "finger", "flame", "flute", "forest", "fossil", "garden", "garlic",
    "giant", "ginger", "glacier", "goblet", "gorilla", "granite", "grape", "guitar", "hammer",
    "harbor", "hazel", "hedge", "helmet", "heron", "hickory", "honey", "hunter", "iceberg", "igloo",
    "indigo", "island", "ivory", "jacket", "jaguar", "jasmine", "jelly", "jewel", "jigsaw", "judge",
    "jungle", "juniper", "kayak", "kernel", "kettle", "kidney", "kitten", "koala", "ladder",
    "lagoon", "lantern", "laurel", "lemon", "leopard", "lizard", "lobster", "lotus", "lumber",
    "magnet", "mango", "maple", "marble", "meadow", "melon", "mirror", "monkey", "mosaic", "muffin",
    "museum", "mustard", "napkin", "nectar", "needle", "nickel", "noodle", "nutmeg", "ocean",
    "octopus", "olive", "onion", "orbit", "orchid", "otter", "oyster", "paddle", "palace", "panda",
    "parrot", "peanut", "pebble", "pelican", "pepper", "piano", "pigeon", "pillow", "pirate",
    "planet", "plum", "pocket", "polar", "pony", "potato", "prairie", "prism", "pudding", "pumpkin",
    "puzzle", "quail", "quartz", "queen", "quilt", "rabbit", "raccoon", "radio", "raven", "ribbon",
    "river", "robot", "rocket", "rudder", "saddle", "salmon", "sandal", "satin", "saturn", "scarf",
    "school", "scooter", "shadow", "shovel", "silver", "siren", "sketch", "snow", "socks", "spider",
    "spoon", "squash", "statue", "storm", "sugar", "summer", "swan", "tablet", "tango", "teapot",
    "temple", "thunder", "ticket", "tiger", "tomato", "tornado", "tractor", "trumpet", "tulip",
    "tunnel", "turtle", "uncle", "valley", "vanilla", "velvet", "violin", "volcano", "waffle",
    "walnut", "walrus", "water", "whale", "wheel", "whistle", "willow", "window", "winter",
    "wizard", "wolf", "yellow", "yogurt", "zebra", "zigzag", "zipper", "zodiac",
];
