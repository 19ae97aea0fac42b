"""The drawings of chapter 1, one module a unit. Their pieces are `aiinfra_labs.course.drawing`."""
