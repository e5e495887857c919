"""Networks: the Neural-ODE family, and teachers and students from timm and torchvision."""
