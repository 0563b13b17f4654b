"""Networks, losses, augmentation and the adversarial training loop."""
