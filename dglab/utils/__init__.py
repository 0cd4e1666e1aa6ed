"""What every room uses: errors, seeds, strict images, whole files, the machine."""
