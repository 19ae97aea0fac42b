"""The drawings of chapter 4, one module a unit. Their pieces are `aiinfra_labs.course.drawing`."""
